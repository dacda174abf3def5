-- Lines were handed out or ended: save how far the input has been read.
--
-- Guarantee: the offset moves only from the one that the caller read, in the same round and with the same `stopping`.
-- KEYS  1 batch record (hash)
-- ARGV  1 fed_offset before  2 round  3 stopping  4 fed_offset after  5 fed_line after  6 lines handed out
--       7 bytes of each of these, 0 without any
-- Returns 1 if it moved, 0 if the batch had changed.
local batch = redis.call('HMGET', KEYS[1], 'fed_offset', 'round', 'stopping')
if batch[1] ~= ARGV[1] or batch[2] ~= ARGV[2] or batch[3] ~= ARGV[3] then
  return 0
end
redis.call('HSET', KEYS[1], 'fed_offset', ARGV[4], 'fed_line', ARGV[5])
redis.call('HINCRBY', KEYS[1], 'fed', ARGV[6])
if ARGV[7] ~= '0' then
  redis.call('HSET', KEYS[1], 'fed_each', ARGV[7])
end
return 1
