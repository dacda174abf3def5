-- Start another round of a batch that has ended: the jobs that did not succeed run again.
--
-- Guarantee: each round increments the number by one, so messages of older rounds are recognized.
-- KEYS  1 batch record (hash)  2 done bitmap  3 failed bitmap  4 leases  5 owners  6 results  7 batches (zset)
--       8 ticks (zset)  9 queues (set)  10 settled bitmap  11 spent (hash)  12 idle ticks (set)
-- ARGV  1 batch id  2 the round that has ended  3 queue  4 now (µs; '' = the server's)  5 lifetime (s)
--       6… further fields and values
-- Returns the number of jobs that run again; -1 if that round is no longer the last one, or has not ended.
--@include tasks/jobs/lua/lib/clock.lua
--@include tasks/jobs/lua/lib/keep.lua
local batch = redis.call('HMGET', KEYS[1], 'status', 'round', 'completed', 'total')
local ended = { completed = true, failed = true, expired = true, cancelled = true }
if not ended[batch[1]] or batch[2] ~= ARGV[2] then
  return -1
end
local failed = tonumber(batch[4]) - tonumber(batch[3])  -- includes jobs without a result line, if the input was gone
if failed <= 0 then
  return 0
end
local now = now_or(ARGV[4])
redis.call('DEL', KEYS[3], KEYS[4], KEYS[5], KEYS[6], KEYS[10], KEYS[11])
redis.call('COPY', KEYS[2], KEYS[10])
redis.call('HSET', KEYS[1], 'status', 'in_progress', 'failed', 0, 'fed', batch[3], 'fed_offset', 0, 'fed_line', 0,
  'output_offset', 0, 'errors_offset', 0, 'parts', 0, 'written_id', '0-0', 'plan', '', 'stopping', '', 'ended', '0',
  'short_since', '0', 'pace', '', 'feed_trouble', '', 'collect_trouble', '', unpack(ARGV, 6))
redis.call('HINCRBY', KEYS[1], 'round', 1)
local due = string.format('%d', now)
redis.call('ZADD', KEYS[8], due, 'feed:' .. ARGV[1], due, 'collect:' .. ARGV[1])
redis.call('SADD', KEYS[12], 'collect:' .. ARGV[1])
redis.call('PEXPIRE', KEYS[12], 3600000)
redis.call('SADD', KEYS[9], ARGV[3])
redis.call('EXPIRE', KEYS[1], ARGV[5])
redis.call('EXPIRE', KEYS[2], ARGV[5])
redis.call('EXPIRE', KEYS[10], ARGV[5])
keep(KEYS[7], ARGV[5])
keep(KEYS[8], ARGV[5])
return failed
