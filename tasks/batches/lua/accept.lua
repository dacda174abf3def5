-- Accept a batch whose input is still to be checked, unless it exists.
--
-- Guarantee: its record, its entries in both lists and the tick that checks its input are created together.
-- KEYS  1 batch record (hash)  2 batches (zset)  3 the client's batches (zset)  4 ticks of the batch lane (zset)
-- ARGV  1 batch id  2 created (s)  3 now (µs; '' = the server's)  4 lifetime (s): until its deadline, and the time for
--       which it is kept after that  5 lifetime of the client's list (s)  6 the tick  7… the record's fields and values
-- Returns 1 if it was created, 0 if it existed.
--@include tasks/jobs/lua/lib/clock.lua
--@include tasks/jobs/lua/lib/keep.lua
if redis.call('EXISTS', KEYS[1]) == 1 then
  return 0
end
local now = now_or(ARGV[3])
local micros = string.format('%d', now)
redis.call('HSET', KEYS[1], unpack(ARGV, 7))
redis.call('ZADD', KEYS[2], ARGV[2], ARGV[1])
redis.call('ZADD', KEYS[3], micros, ARGV[1])
redis.call('ZADD', KEYS[4], micros, ARGV[6])
redis.call('EXPIRE', KEYS[1], ARGV[4])
redis.call('EXPIRE', KEYS[3], ARGV[5])
keep(KEYS[2], ARGV[4])
keep(KEYS[4], ARGV[4])
return 1
