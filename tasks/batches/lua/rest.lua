-- A tick has been run: say when it is due again.
--
-- An idle tick has nothing to do until a job of its batch ends (finish.lua, wake.lua). Until then it runs rarely: the
-- more ticks there are, the less often each runs.
-- Guarantee: a job that ends while the tick runs is not missed; a tick that was removed stays removed.
-- KEYS  1 ticks (zset: tick -> us)  2 idle ticks (set)  3 the batch's record (hash)
--       4 its results (stream), for a collect tick
-- ARGV  1 tick  2 due again in (us); for an idle tick, at the earliest  3 1 if it is idle  4 ended jobs that it saw
--       5 due again at the latest in (us)  6 us for each tick in the set  7 now (us; '' = the server's)
-- Returns the us until it is due; -1 if it was removed.
--@include tasks/jobs/lua/lib/clock.lua
local now = now_or(ARGV[7])
local wait = tonumber(ARGV[2])
if ARGV[3] == '1' then
  local ended = redis.call('HMGET', KEYS[3], 'completed', 'failed')
  local seen = tonumber(ended[1] or 0) + tonumber(ended[2] or 0) == tonumber(ARGV[4])
  if seen and (not KEYS[4] or redis.call('XLEN', KEYS[4]) == 0) then
    wait = math.min(math.max(wait, redis.call('ZCARD', KEYS[1]) * ARGV[6]), math.max(wait, tonumber(ARGV[5])))
    redis.call('SADD', KEYS[2], ARGV[1])
    redis.call('PEXPIRE', KEYS[2], 3600000)
  end
end
if not redis.call('ZSCORE', KEYS[1], ARGV[1]) then
  redis.call('SREM', KEYS[2], ARGV[1])
  return -1
end
redis.call('ZADD', KEYS[1], string.format('%d', now + wait), ARGV[1])
return wait
