-- Settle up to which result the next write goes, unless that is settled already.
--
-- Guarantee: between two commits there is one plan, whoever asks; all who write it write the same bytes.
-- KEYS  1 batch record (hash)
-- ARGV  1 written_id that the caller knows  2 the plan it proposes, 'entry id:entries'
-- Returns the plan that counts, or '' where the batch has moved on since.
local batch = redis.call('HMGET', KEYS[1], 'written_id', 'plan')
if batch[1] ~= ARGV[1] then
  return ''
end
if batch[2] and batch[2] ~= '' then
  return batch[2]
end
redis.call('HSET', KEYS[1], 'plan', ARGV[2])
return ARGV[2]
