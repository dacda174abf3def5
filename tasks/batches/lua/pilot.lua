-- Lines of a batch's pilot were handed out.
--
-- Guarantee: they count once, and only while nothing but the pilot is handed out.
-- KEYS  1 batch record (hash)
-- ARGV  1 pilot_fed before  2 lines handed out
-- Returns 1 if they count, 0 if the batch had changed.
local batch = redis.call('HMGET', KEYS[1], 'pilot_fed', 'pilot_over', 'stopping')
if batch[1] ~= ARGV[1] or batch[2] ~= '0' or batch[3] ~= '' then
  return 0
end
redis.call('HINCRBY', KEYS[1], 'pilot_fed', ARGV[2])
redis.call('HINCRBY', KEYS[1], 'fed', ARGV[2])
return 1
