-- A planned write is on disk: move the batch on, and delete the written results.
--
-- Guarantee: only the write that was planned from here moves the batch on, and only once.
-- KEYS  1 batch record (hash)  2 results (stream)
-- ARGV  1 written_id before  2 the plan  3 the plan's last entry id  4 output bytes written  5 errors bytes written
-- Returns 1 if the batch moved on, 0 if another collector had moved it on.
local batch = redis.call('HMGET', KEYS[1], 'written_id', 'plan')
if batch[1] ~= ARGV[1] or batch[2] ~= ARGV[2] then
  return 0
end
redis.call('HSET', KEYS[1], 'written_id', ARGV[3], 'plan', '')
redis.call('HINCRBY', KEYS[1], 'output_offset', ARGV[4])
redis.call('HINCRBY', KEYS[1], 'errors_offset', ARGV[5])
redis.call('HINCRBY', KEYS[1], 'parts', 1)
redis.call('XTRIM', KEYS[2], 'MINID', ARGV[3])
redis.call('XDEL', KEYS[2], ARGV[3])
return 1
