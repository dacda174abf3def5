-- Move a batch from one status to the next.
--
-- Guarantee: the status changes only from an expected one, and only in the round that the caller knows. A batch that
-- goes on is fed at once; for one that has ended, the tick that calls the webhooks is there.
-- KEYS  1 batch record (hash)  2 ticks (zset)  3 idle ticks (set)  4 ticks of the batch lane (zset)
-- ARGV  1 batch id  2 expected statuses, separated by commas  3 new status  4 lifetime (s), 0 for none
--       5 now (µs; '' = the server's)  6 round, '' for any  7… further fields and values
-- Returns the status that it has now, '' if there is no batch.
--@include tasks/jobs/lua/lib/clock.lua
--@include tasks/jobs/lua/lib/keep.lua
local batch = redis.call('HMGET', KEYS[1], 'status', 'round')
local status = batch[1]
if not status then
  return ''
end
if not string.find(',' .. ARGV[2] .. ',', ',' .. status .. ',', 1, true) or (ARGV[6] ~= '' and ARGV[6] ~= batch[2]) then
  return status
end
redis.call('HSET', KEYS[1], 'status', ARGV[3], unpack(ARGV, 7))
local now = now_or(ARGV[5])
local due = string.format('%d', now)
if ARGV[4] ~= '0' then
  redis.call('EXPIRE', KEYS[1], ARGV[4])
  redis.call('ZREM', KEYS[2], 'feed:' .. ARGV[1], 'collect:' .. ARGV[1])
  redis.call('SREM', KEYS[3], 'feed:' .. ARGV[1], 'collect:' .. ARGV[1])
  redis.call('ZADD', KEYS[4], due, 'notify:' .. ARGV[1])
  keep(KEYS[4], ARGV[4])
else
  redis.call('ZADD', KEYS[2], due, 'feed:' .. ARGV[1])
end
return ARGV[3]
