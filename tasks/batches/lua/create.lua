-- Create a batch, unless it exists. One whose input was still to be checked becomes this one.
--
-- Guarantee: its record, its entry in the list of batches, its queue and its ticks are created together.
-- KEYS  1 batch record (hash)  2 batches (zset)  3 queues (set)  4 ticks (zset)  5 idle ticks (set)
-- ARGV  1 batch id  2 queue  3 created (s)  4 now (µs; '' = the server's)  5 lifetime (s): until its deadline, and
--       the time for which it is kept after that  6… the record's fields and values
-- Returns 1 if it was created, 0 if it existed.
--@include tasks/jobs/lua/lib/clock.lua
--@include tasks/jobs/lua/lib/keep.lua
--@include tasks/jobs/lua/lib/wake.lua
local status = redis.call('HGET', KEYS[1], 'status')
if status and status ~= 'validating' then
  return 0
end
local now = now_or(ARGV[4])
local due = string.format('%d', now)
redis.call('HSET', KEYS[1], unpack(ARGV, 6))
redis.call('ZADD', KEYS[2], ARGV[3], ARGV[1])
redis.call('SADD', KEYS[3], ARGV[2])
redis.call('ZADD', KEYS[4], due, 'feed:' .. ARGV[1], due, 'collect:' .. ARGV[1])
wake(KEYS[4], 'feed:' .. ARGV[1])
-- There is nothing to collect before a job ends.
redis.call('SADD', KEYS[5], 'collect:' .. ARGV[1])
redis.call('PEXPIRE', KEYS[5], 3600000)
redis.call('EXPIRE', KEYS[1], ARGV[5])
keep(KEYS[2], ARGV[5])
keep(KEYS[4], ARGV[5])
return 1
