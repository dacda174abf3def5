-- End a job: record its result, settle its money and give up its lease, in one step.
--
-- Guarantee: a job ends only here, and once. If it is finished several times, the first result counts. The others settle
-- their money (it was spent) and change nothing else. A message without a valid proof (lib/line.lua) records nothing, nor
-- does one that arrives after its batch has ended.
-- KEYS  1 clock  2 record: the batch's hash, or the job's own
--       3 done bitmap  4 failed bitmap  5 leases  6 owners  7 results (stream)
--       8 ticks (zset)  9 idle ticks (set)  10 spent (hash)  11 offloaded bitmap    3 to 11 only if the job is a batch's
-- ARGV  1 now (µs; 0 = the server's)  2 settlement (JSON, as lib/settle.lua takes it; '' = nothing is open)
--       3 ok (1 or 0)  4 the result line  5 cost (n$)  6 input tokens  7 output tokens  8 calls  9 429s
--       10 lifetime (s) of a job's own record
--       11 line  12 round  13 workflow of the queue  14 proof  15 the tick that collects
--       16 the ceiling that the answer met: none, own (the line's) or default    11 to 16 only if the job is a batch's
-- Returns {1 if this result counts else 0, 1 if the settlement opened a circuit else 0}
--@include limits/lua/lib/settle.lua
--@include tasks/jobs/lua/lib/line.lua
--@include tasks/batches/lua/lib/wake.lua
local now = clock(ARGV[1])
local opened, verdict = 0, ''
if ARGV[2] ~= '' then
  verdict, opened = settle(now, cjson.decode(ARGV[2]))
  commit()
end

if not KEYS[3] then
  if redis.call('HEXISTS', KEYS[2], 'answer') == 1 then
    return { 0, opened }
  end
  redis.call('HSET', KEYS[2], 'answer', ARGV[4], 'until', '0')
  redis.call('EXPIRE', KEYS[2], ARGV[10])
  return { 1, opened }
end

local line, round = ARGV[11], tonumber(ARGV[12])
local record = redis.call('HMGET', KEYS[2], unpack(PROOF))
if not record[1] or not proved(record, line, ARGV[12], ARGV[13], ARGV[14]) then
  return { 0, opened }
end
local ended = record[1] == 'completed' or record[1] == 'failed' or record[1] == 'expired' or record[1] == 'cancelled'
local over = ended or round < tonumber(record[2])
  or redis.call('GETBIT', KEYS[3], line) == 1 or redis.call('GETBIT', KEYS[4], line) == 1
-- A second delivery's money counts, though its result doesn't. Repeating the same finish counts nothing.
if not over or verdict == 'settled' or verdict == 'corrected' then
  redis.call('HINCRBY', KEYS[2], 'cost', ARGV[5])
  redis.call('HINCRBY', KEYS[2], 'input_tokens', ARGV[6])
  redis.call('HINCRBY', KEYS[2], 'output_tokens', ARGV[7])
  redis.call('HINCRBY', KEYS[2], 'calls', ARGV[8])
  redis.call('HINCRBY', KEYS[2], 'throttled', ARGV[9])
end
if over then
  return { 0, opened }
end
local ok = ARGV[3] == '1'
if ARGV[16] ~= 'none' then
  redis.call('HINCRBY', KEYS[2], 'cut_off', 1)
end
if ARGV[16] == 'default' then
  redis.call('HINCRBY', KEYS[2], 'cut_off_default', 1)
end
redis.call('SETBIT', ok and KEYS[3] or KEYS[4], line, 1)
redis.call('XADD', KEYS[7], '*', 'k', ARGV[3], 'd', ARGV[4])
-- Keys that are created here get the lifetime of the record.
if redis.call('HINCRBY', KEYS[2], ok and 'completed' or 'failed', 1) == 1 or redis.call('XLEN', KEYS[7]) == 1 then
  local life = redis.call('TTL', KEYS[2])
  if life > 0 then
    redis.call('EXPIRE', ok and KEYS[3] or KEYS[4], life)
    redis.call('EXPIRE', KEYS[7], life)
  end
end
-- The first waiting result wakes the collector.
if redis.call('XLEN', KEYS[7]) == 1 and redis.call('SREM', KEYS[9], ARGV[15]) == 1 then
  wake(KEYS[8], ARGV[15])
end
redis.call('ZREM', KEYS[5], line)
redis.call('HDEL', KEYS[6], line)
redis.call('HDEL', KEYS[10], line)
-- A line that has ended is in no lane any more.
if tonumber(redis.call('HGET', KEYS[2], 'offloaded') or 0) > 0 and redis.call('SETBIT', KEYS[11], line, 0) == 1 then
  redis.call('HINCRBY', KEYS[2], 'offloaded', -1)
end
return { 1, opened }
