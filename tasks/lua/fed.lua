-- Lines were handed out: save how far the input has been read.
--
-- Guarantee: the offset moves only from where the caller began.
-- KEYS  1 batch record (hash)
-- ARGV  1 fed_offset before  2 fed_offset after  3 fed_line after  4 lines handed out
-- Returns 1 if it moved, 0 if another feeder had moved it.
if redis.call('HGET', KEYS[1], 'fed_offset') ~= ARGV[1] then
  return 0
end
redis.call('HSET', KEYS[1], 'fed_offset', ARGV[2], 'fed_line', ARGV[3])
redis.call('HINCRBY', KEYS[1], 'fed', ARGV[4])
return 1
