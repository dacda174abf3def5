-- Take due ticks; each is left alone for a lease, and due again after it if its taker says nothing.
--
-- Guarantee: a tick that is in the set stays in the set.
-- KEYS  1 ticks (zset: tick -> µs)
-- ARGV  1 lease (µs)  2 how many at the most  3 now (µs; '' = the server's)
-- Returns the ticks taken.
local now = tonumber(ARGV[3])
if not now then
  local time = redis.call('TIME')
  now = time[1] * 1000000 + time[2]
end
local due = redis.call('ZRANGE', KEYS[1], '-inf', string.format('%d', now), 'BYSCORE', 'LIMIT', 0, ARGV[2])
for _, tick in ipairs(due) do
  redis.call('ZADD', KEYS[1], string.format('%d', now + ARGV[1]), tick)
end
return due
