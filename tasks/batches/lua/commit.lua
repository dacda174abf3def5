-- A planned write is on disk: move the batch on, count the copies in it, and delete the results that are written whole.
--
-- Guarantee: only the write that was planned from here moves the batch on, and only once.
-- KEYS  1 batch record (hash)  2 results (stream)
-- ARGV  1 written_id before  2 the plan  3 written_id after  4 the last entry that is written whole
--       5 output bytes written  6 errors bytes written
--       7 the checks of the copies in it (JSON: result -> number)  8… what these add to fields of the record: field, number
-- Returns 1 if the batch moved on, 0 if another collector had moved it on.
local batch = redis.call('HMGET', KEYS[1], 'written_id', 'plan')
if batch[1] ~= ARGV[1] or batch[2] ~= ARGV[2] then
  return 0
end
redis.call('HSET', KEYS[1], 'written_id', ARGV[3], 'plan', '')
redis.call('HINCRBY', KEYS[1], 'output_offset', ARGV[5])
redis.call('HINCRBY', KEYS[1], 'errors_offset', ARGV[6])
redis.call('HINCRBY', KEYS[1], 'parts', 1)
for i = 8, #ARGV, 2 do
  redis.call('HINCRBY', KEYS[1], ARGV[i], ARGV[i + 1])
end
if ARGV[7] ~= '{}' then
  local counts = cjson.decode(redis.call('HGET', KEYS[1], 'checks') or '{}')
  for result, number in pairs(cjson.decode(ARGV[7])) do counts[result] = (counts[result] or 0) + number end
  redis.call('HSET', KEYS[1], 'checks', cjson.encode(counts))
end
redis.call('XTRIM', KEYS[2], 'MINID', ARGV[4])
redis.call('XDEL', KEYS[2], ARGV[4])
return 1
