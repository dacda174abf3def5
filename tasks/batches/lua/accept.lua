-- Accept a batch whose input is still to be checked, unless it exists.
--
-- Guarantee: its record, its entries in both lists and the tick that checks its input are created together.
-- KEYS  1 batch record (hash)  2 batches (zset)  3 the client's batches (zset)  4 ticks of the batch lane (zset)
-- ARGV  1 batch id  2 created (s)  3 now (µs; '' = the server's)  4 lifetime (s): until its deadline, and the time for
--       which it is kept after that  5 lifetime of the client's list (s)  6 the tick  7… the record's fields and values
-- Returns 1 if it was created, 0 if it existed.
if redis.call('EXISTS', KEYS[1]) == 1 then
  return 0
end
local now = tonumber(ARGV[3])
if not now then
  local time = redis.call('TIME')
  now = time[1] * 1000000 + time[2]
end
local micros = string.format('%d', now)
redis.call('HSET', KEYS[1], unpack(ARGV, 7))
redis.call('ZADD', KEYS[2], ARGV[2], ARGV[1])
redis.call('ZADD', KEYS[3], micros, ARGV[1])
redis.call('ZADD', KEYS[4], micros, ARGV[6])
redis.call('EXPIRE', KEYS[1], ARGV[4])
redis.call('EXPIRE', KEYS[3], ARGV[5])
for _, key in ipairs({ KEYS[2], KEYS[4] }) do
  redis.call('EXPIRE', key, ARGV[4], 'NX')
  redis.call('EXPIRE', key, ARGV[4], 'GT')
end
return 1
