-- Lines leave the batch lane without a result.
--
-- Guarantee: a line leaves once, and only in the round in which it was taken.
-- KEYS  1 batch record (hash)  2 offloaded bitmap
-- ARGV  1 round  2… lines
-- Returns the number of lines that have left.
if redis.call('HGET', KEYS[1], 'round') ~= ARGV[1] then
  return 0
end
local left = 0
for i = 2, #ARGV do
  left = left + redis.call('SETBIT', KEYS[2], ARGV[i], 0)
end
if left > 0 then
  redis.call('HINCRBY', KEYS[1], 'offloaded', -left)
end
return left
