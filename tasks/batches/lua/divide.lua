-- Lines were divided among the lanes: save the chunks that were cut of them, and how far the input has been read.
--
-- Guarantee: the place moves only from the one that the caller read, in the same round, while the batch runs. A line is
-- either in one of these chunks or left to be fed live, from the same moment on.
-- KEYS  1 batch record (hash)  2 taken bitmap  3 offloaded bitmap  4 chunks (hash)
-- ARGV  1 divided_offset before  2 round  3 divided_offset after  4 divided_line after  5 lines in the chunks
--       6 the bits of these lines, from byte `ARGV 7` of the bitmaps on  7 that byte  8… chunk ids and their JSON
-- Returns 1 if it moved, 0 if the batch had changed.
local batch = redis.call('HMGET', KEYS[1], 'divided_offset', 'round', 'status')
if (batch[1] or '0') ~= ARGV[1] or batch[2] ~= ARGV[2] or batch[3] ~= 'in_progress' then
  return 0
end
redis.call('HSET', KEYS[1], 'divided_offset', ARGV[3], 'divided_line', ARGV[4])
if ARGV[5] == '0' then
  return 1
end
redis.call('HINCRBY', KEYS[1], 'fed', ARGV[5])
redis.call('HINCRBY', KEYS[1], 'offloaded', ARGV[5])
local first, life = tonumber(ARGV[7]), redis.call('TTL', KEYS[1])
for _, key in ipairs({ KEYS[2], KEYS[3] }) do
  -- The first byte may hold bits of the lines before.
  local before = string.byte(redis.call('GETRANGE', key, first, first)) or 0
  local bits = string.char(bit.bor(before, string.byte(ARGV[6]))) .. string.sub(ARGV[6], 2)
  redis.call('SETRANGE', key, first, bits)
  if life > 0 then redis.call('EXPIRE', key, life) end
end
redis.call('HSET', KEYS[4], unpack(ARGV, 8))
if life > 0 then redis.call('EXPIRE', KEYS[4], life) end
return 1
