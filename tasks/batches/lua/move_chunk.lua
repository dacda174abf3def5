-- Write a chunk's next step into the journal.
--
-- Guarantee: a step is written only over the version that the caller read, so of two workers only one goes on.
-- KEYS  1 chunks (hash)
-- ARGV  1 chunk id  2 version that the caller read  3 the chunk's JSON, with the next version
--       4… ids and JSON of the chunks that it was split into
-- Returns 1 if it was written, 0 if the chunk had changed.
local found = redis.call('HGET', KEYS[1], ARGV[1])
if not found or cjson.decode(found).version ~= tonumber(ARGV[2]) then
  return 0
end
redis.call('HSET', KEYS[1], ARGV[1], ARGV[3], unpack(ARGV, 4))
return 1
