-- Plan at which result the next write ends, unless there is a plan already.
--
-- Guarantee: between two commits there is one plan, so all collectors write the same bytes.
-- KEYS  1 batch record (hash)
-- ARGV  1 written_id and 2 round that the caller knows  3 the plan it proposes (results.py)
-- Returns the plan, or '' if the batch has moved on.
local batch = redis.call('HMGET', KEYS[1], 'written_id', 'round', 'plan')
if batch[1] ~= ARGV[1] or batch[2] ~= ARGV[2] then
  return ''
end
if batch[3] and batch[3] ~= '' then
  return batch[3]
end
redis.call('HSET', KEYS[1], 'plan', ARGV[3])
return ARGV[3]
