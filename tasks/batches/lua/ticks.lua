-- Take due ticks; each is left alone for a lease, and due again after it if its taker says nothing. One of those who ask
-- is on duty: it asks often, the others seldom, unless there is more to do than it can.
--
-- Guarantee: a tick that is in the set stays in the set.
-- KEYS  1 ticks (zset: tick -> µs)  2 who is on duty  3 idle ticks (set)  4 tickers (zset: who -> µs when it last asked)
-- ARGV  1 lease (µs)  2 how many at the most  3 now (µs; '' = the server's)  4 who asks  5 how long it is on duty (ms)
-- Returns { 1 if who asks is on duty, the ticks taken }.
local FAR = 60000000
local now = tonumber(ARGV[3])
if not now then
  local time = redis.call('TIME')
  now = time[1] * 1000000 + time[2]
end
local due = redis.call('ZRANGE', KEYS[1], '-inf', string.format('%d', now), 'BYSCORE', 'LIMIT', 0, ARGV[2])
if not due[1] then
  -- No tick is put off for a minute: a clock that was ahead has left these.
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
