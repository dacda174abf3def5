-- Settle up to which result the next write goes, unless that is settled already.
--
-- Guarantee: between two commits there is one plan, whoever asks; all who write it write the same bytes.
-- KEYS  1 batch record (hash)
-- ARGV  1 written_id and 2 round that the caller knows  3 the plan it proposes, 'entry id:entries'
-- Returns the plan that counts, or '' where the batch has moved on since.
local batch = redis.call('HMGET', KEYS[1], 'written_id', 'round', 'plan')
if batch[1] ~= ARGV[1] or batch[2] ~= ARGV[2] then
  return ''
end
if batch[3] and batch[3] ~= '' then
  return batch[3]
end
redis.call('HSET', KEYS[1], 'plan', ARGV[3])
return ARGV[3]
