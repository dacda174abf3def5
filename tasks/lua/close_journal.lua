-- A job of an agent has succeeded: its answers are not needed for a replay any more, and only its story stays.
--
-- Guarantee: a journal that another round has begun in keeps its answers.
-- KEYS  1 journal (hash)
-- ARGV  1 round  2… positions
-- Returns 1 if the answers are gone, else 0.
if redis.call('HGET', KEYS[1], 'round') ~= ARGV[1] then
  return 0
end
for i = 2, #ARGV do
  redis.call('HDEL', KEYS[1], 'b:' .. ARGV[i])
end
return 1
