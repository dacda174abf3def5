-- Take due ticks. A taken tick is due again after its lease, unless its worker sets another time. One worker is on
-- duty: it asks often, and the others rarely, unless one worker is too slow for all ticks.
--
-- Guarantee: taking a tick never removes it from the set.
-- KEYS  1 ticks (zset: tick -> µs)  2 the worker on duty  3 idle ticks (set)
--       4 tickers (zset: worker -> µs when it last asked)
-- ARGV  1 lease (µs)  2 ticks to take at most  3 now (µs; '' = the server's)  4 worker that asks  5 time on duty (ms)
-- Returns { 1 if the worker is on duty, else 0; the ticks taken }.
--@include tasks/jobs/lua/lib/clock.lua
local FAR = 60000000
local now = now_or(ARGV[3])
local due = redis.call('ZRANGE', KEYS[1], '-inf', string.format('%d', now), 'BYSCORE', 'LIMIT', 0, ARGV[2])
if not due[1] then
  -- No tick is due in more than a minute: these were set while the clock was ahead.
  due = redis.call('ZRANGE', KEYS[1], string.format('%d', now + FAR), '+inf', 'BYSCORE', 'LIMIT', 0, ARGV[2])
end
for _, tick in ipairs(due) do
  redis.call('ZADD', KEYS[1], string.format('%d', now + ARGV[1]), tick)
  redis.call('SREM', KEYS[3], tick)
end
redis.call('ZADD', KEYS[4], string.format('%d', now), ARGV[4])
redis.call('ZREMRANGEBYSCORE', KEYS[4], '-inf', string.format('(%d', now - 3600000000))
redis.call('PEXPIRE', KEYS[4], 3600000)
local duty = redis.call('GET', KEYS[2])
if not duty or redis.call('PTTL', KEYS[2]) > tonumber(ARGV[5]) then duty = ARGV[4] end  -- or the clock was set back
if duty == ARGV[4] then redis.call('SET', KEYS[2], duty, 'PX', ARGV[5]) end
return { duty == ARGV[4] and 1 or 0, due }
