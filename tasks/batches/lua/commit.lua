-- A planned write is on disk: move the batch on, count the copies in it, and delete the results that are written whole.
--
-- Guarantee: only the write that was planned from here moves the batch on, and only once.
-- KEYS  1 batch record (hash)  2 results (stream)
-- ARGV  1 written_id before  2 the plan  3 written_id after  4 the last entry that is written whole
--       5 output bytes written  6 errors bytes written  7 copies of answers written  8 copies of failures written
-- Returns 1 if the batch moved on, 0 if another collector had moved it on.
local batch = redis.call('HMGET', KEYS[1], 'written_id', 'plan')
if batch[1] ~= ARGV[1] or batch[2] ~= ARGV[2] then
  return 0
end
redis.call('HSET', KEYS[1], 'written_id', ARGV[3], 'plan', '')
redis.call('HINCRBY', KEYS[1], 'output_offset', ARGV[5])
redis.call('HINCRBY', KEYS[1], 'errors_offset', ARGV[6])
redis.call('HINCRBY', KEYS[1], 'parts', 1)
-- A copy has never been in the queue: it counts as handed out when it ends.
for ending, count in pairs({ completed = ARGV[7], failed = ARGV[8] }) do
  if count ~= '0' then
    redis.call('HINCRBY', KEYS[1], ending, count)
    redis.call('HINCRBY', KEYS[1], 'copies_' .. ending, count)
    redis.call('HINCRBY', KEYS[1], 'fed', count)
  end
end
redis.call('XTRIM', KEYS[2], 'MINID', ARGV[4])
redis.call('XDEL', KEYS[2], ARGV[4])
return 1
