-- Report what holds up a batch.
--
-- Guarantee: a deleted record is not created again.
-- KEYS  1 batch record (hash)
-- ARGV  1 the words
-- Returns 1 if it was noted, else 0.
if redis.call('EXISTS', KEYS[1]) == 0 then
  return 0
end
redis.call('HSET', KEYS[1], 'told', ARGV[1], 'told_at', redis.call('TIME')[1])
return 1
