-- End jobs of one batch, or one job of its own: record the results, settle the money and give up the leases, in one step.
--
-- Guarantee: a job ends only here, and once. If it is finished several times, the first result counts. The others settle
-- their money (it was spent) and change nothing else, and so do those that arrive after their batch has ended or whose
-- record is gone. If the record is there and a proof (lib/line.lua) is not valid, nothing is written for that job, not
-- even its settlement: if a call is open nevertheless, it counts as presumed spent when its lease ends.
-- KEYS  1 clock  2 record: the batch's hash, or the job's own
--       3 done bitmap  4 failed bitmap  5 leases  6 owners  7 results (stream)
--       8 ticks (zset)  9 idle ticks (set)  10 spent (hash)  11 offloaded bitmap  12 kept answers (hash)
--       3 to 12 only if the jobs are a batch's
-- ARGV  1 now (µs; 0 = the server's)  2 lifetime (s) of a job's own record  3 the tick that collects the batch; '' = none
--       4.. one for each job: JSON, a newline, and the result line. In the JSON
--           settlement (as lib/settle.lua takes it; false = nothing is open), ok (true or false), and as text
--           cost (n$), input_tokens, output_tokens, calls, throttles; cached_tokens and reasoning_tokens unless zero;
--           again_cost (n$ of further answers; absent if there was none);
--           of a batch's job line, round, workflow (of the queue), proof, and
--           ceiling that the answer met: none, own (the line's) or default, and
--           checks (names that the record counts in its JSON `checks`; may be absent)
-- Returns {1 if the result counts else 0, 1 if the settlement opened a circuit else 0}; for several jobs a list of these
--@include limits/lua/lib/settle.lua
--@include tasks/jobs/lua/lib/line.lua
--@include tasks/jobs/lua/lib/wake.lua
local record = KEYS[3] and redis.call('HMGET', KEYS[2], unpack(PROOF))

-- Whether the record refuses the job. One that is gone refuses none, but takes no result.
local function forged(job)
  return record and record[1] and not proved(record, job.line, job.round, job.workflow, job.proof)
end

local now = clock(ARGV[1])
local all, open, answers = {}, {}, {}
for i = 4, #ARGV do
  local head = string.find(ARGV[i], '\n', 1, true)
  local job = cjson.decode(string.sub(ARGV[i], 1, head - 1))
  job.result, job.opened, job.verdict = string.sub(ARGV[i], head + 1), 0, ''
  all[#all + 1] = job
  job.forged = forged(job)
  if job.forged then job.settlement = false end
  if job.settlement then open[#open + 1] = job.settlement.id end
end
if #open > 0 then
  fetch_all_of(open)
  for _, job in ipairs(all) do
    if job.settlement then job.verdict, job.opened = settle(now, job.settlement) end
  end
  commit()
end

if not record then
  local job = all[1]
  if redis.call('HEXISTS', KEYS[2], 'answer') == 1 then
    return { 0, job.opened }
  end
  redis.call('HSET', KEYS[2], 'answer', job.result, 'until', '0')
  if job.again_cost then redis.call('HDEL', KEYS[2], 'kept') end
  redis.call('EXPIRE', KEYS[2], ARGV[2])
  return { 1, job.opened }
end

local ended = record[1] == 'completed' or record[1] == 'failed' or record[1] == 'expired' or record[1] == 'cancelled'

-- Count names in the record's JSON `checks`.
local function count(names)
  local counts = cjson.decode(redis.call('HGET', KEYS[2], 'checks') or '{}')
  for _, name in ipairs(names) do counts[name] = (counts[name] or 0) + 1 end
  redis.call('HSET', KEYS[2], 'checks', cjson.encode(counts))
end

-- Returns 1 if the job's result counts, else 0.
local function finish(job)
  local line = job.line
  if not record[1] or job.forged then return 0 end
  local over = ended or tonumber(job.round) < tonumber(record[2])
    or redis.call('GETBIT', KEYS[3], line) == 1 or redis.call('GETBIT', KEYS[4], line) == 1
  -- A second delivery's money counts, though its result doesn't. Repeating the same finish counts nothing.
  if not over or job.verdict == 'settled' or job.verdict == 'corrected' then
    redis.call('HINCRBY', KEYS[2], 'cost', job.cost)
    redis.call('HINCRBY', KEYS[2], 'input_tokens', job.input_tokens)
    redis.call('HINCRBY', KEYS[2], 'output_tokens', job.output_tokens)
    if job.cached_tokens then redis.call('HINCRBY', KEYS[2], 'cached_tokens', job.cached_tokens) end
    if job.reasoning_tokens then redis.call('HINCRBY', KEYS[2], 'reasoning_tokens', job.reasoning_tokens) end
    redis.call('HINCRBY', KEYS[2], 'calls', job.calls)
    redis.call('HINCRBY', KEYS[2], 'throttled', job.throttles)
  end
  if over then return 0 end
  if job.ceiling ~= 'none' then
    redis.call('HINCRBY', KEYS[2], 'cut_off', 1)
  end
  if job.ceiling == 'default' then
    redis.call('HINCRBY', KEYS[2], 'cut_off_default', 1)
  end
  if job.checks then count(job.checks) end
  if job.again_cost then
    redis.call('HINCRBY', KEYS[2], 'again_cost', job.again_cost)
    redis.call('HDEL', KEYS[12], line)
  end
  redis.call('SETBIT', job.ok and KEYS[3] or KEYS[4], line, 1)
  redis.call('XADD', KEYS[7], '*', 'n', line, 'k', job.ok and '1' or '0', 'd', job.result)
  -- Keys that are created here get the lifetime of the record.
  if redis.call('HINCRBY', KEYS[2], job.ok and 'completed' or 'failed', 1) == 1 or redis.call('XLEN', KEYS[7]) == 1 then
    local life = redis.call('TTL', KEYS[2])
    if life > 0 then
      redis.call('EXPIRE', job.ok and KEYS[3] or KEYS[4], life)
      redis.call('EXPIRE', KEYS[7], life)
    end
  end
  -- The first waiting result wakes the collector.
  if redis.call('XLEN', KEYS[7]) == 1 and redis.call('SREM', KEYS[9], ARGV[3]) == 1 then
    wake(KEYS[8], ARGV[3])
  end
  redis.call('ZREM', KEYS[5], line)
  redis.call('HDEL', KEYS[6], line)
  redis.call('HDEL', KEYS[10], line)
  -- A line that has ended is in no lane any more.
  if tonumber(redis.call('HGET', KEYS[2], 'offloaded') or 0) > 0 and redis.call('SETBIT', KEYS[11], line, 0) == 1 then
    redis.call('HINCRBY', KEYS[2], 'offloaded', -1)
  end
  return 1
end

for i, job in ipairs(all) do answers[i] = { finish(job), job.opened } end
return #answers == 1 and answers[1] or answers
