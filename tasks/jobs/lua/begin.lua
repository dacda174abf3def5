-- May this delivery run the job? If so, lease it.
--
-- Guarantee: only one delivery of a job runs at a time, and a job that has ended never runs again. A message without a
-- valid proof (lib/line.lua) writes nothing.
-- KEYS  1 record: the batch's hash, or the job's own  2 done bitmap  3 failed bitmap  4 leases (zset: line -> µs)
--       5 owners (hash: line -> owner)  6 kept (hash: line -> answer)      2 to 6 only if the job is a batch's
-- ARGV  1 owner (this delivery)  2 lease (µs)  3 now (µs; '' = the server's)  4 lifetime of a job's own record (s)
--       5 line  6 round  7 workflow of the queue  8 proof      5 to 8 only if the job is a batch's
-- Returns {verdict, µs to wait, answer}: verdict is run (answer: the one that an earlier delivery has kept, or ''), done
--       (answer: a job's own result line, or ''), held by another delivery for that long, stopped (batch cancelled, expired or ended), stale (an older round), gone (no
--       such batch), or refused (no valid proof).
--@include tasks/jobs/lua/lib/clock.lua
--@include tasks/jobs/lua/lib/line.lua
local owner, lease = ARGV[1], tonumber(ARGV[2])
local now = now_or(ARGV[3])
local ends = string.format('%d', now + lease)

-- What is left of another delivery's lease, and whether it was cut: a longer lease than this one asks for was written by
-- a clock that was ahead.
local function left(until_)
  local rest = tonumber(until_ or 0) - now
  return math.min(rest, lease), rest > lease
end

if not KEYS[2] then
  local job = redis.call('HMGET', KEYS[1], 'answer', 'owner', 'until', 'kept')
  if job[1] then
    return { 'done', 0, job[1] }
  end
  local held, cut = left(job[3])
  if held > 0 and job[2] ~= owner then
    if cut then redis.call('HSET', KEYS[1], 'until', ends) end
    return { 'held', held, '' }
  end
  redis.call('HSET', KEYS[1], 'owner', owner, 'until', ends)
  redis.call('EXPIRE', KEYS[1], ARGV[4])
  return { 'run', 0, job[4] or '' }
end

local line, round = ARGV[5], tonumber(ARGV[6])
local batch = redis.call('HMGET', KEYS[1], unpack(PROOF))
if not batch[1] then
  return { 'gone', 0, '' }
end
if not proved(batch, line, ARGV[6], ARGV[7], ARGV[8]) then
  return { 'refused', 0, '' }
end
if redis.call('GETBIT', KEYS[2], line) == 1 or redis.call('GETBIT', KEYS[3], line) == 1 then
  return { 'done', 0, '' }
end
if batch[1] ~= 'in_progress' then
  return { 'stopped', 0, '' }
end
if round < tonumber(batch[2]) then
  return { 'stale', 0, '' }
end
local held, cut = left(redis.call('ZSCORE', KEYS[4], line))
if held > 0 and redis.call('HGET', KEYS[5], line) ~= owner then
  if cut then redis.call('ZADD', KEYS[4], ends, line) end
  return { 'held', held, '' }
end
redis.call('ZADD', KEYS[4], ends, line)
redis.call('HSET', KEYS[5], line, owner)
if redis.call('ZCARD', KEYS[4]) == 1 then
  local life = redis.call('TTL', KEYS[1])
  if life > 0 then
    redis.call('EXPIRE', KEYS[4], life)
    redis.call('EXPIRE', KEYS[5], life)
  end
end
return { 'run', 0, redis.call('HGET', KEYS[6], line) or '' }
