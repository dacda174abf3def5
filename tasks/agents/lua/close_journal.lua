-- A job of an agent has ended: its answers are not needed for a replay any more, and only its story stays.
--
-- Guarantee: a journal that another round has begun in keeps its answers.
-- KEYS  1 journal (hash)
-- ARGV  1 round  2 lifetime of what stays (s; '' = as before)  3… positions
-- Returns 1 if the answers are gone, else 0.
if redis.call('HGET', KEYS[1], 'round') ~= ARGV[1] then
  return 0
end
for i = 3, #ARGV do
  redis.call('HDEL', KEYS[1], 'b:' .. ARGV[i])
end
if ARGV[2] ~= '' then
  redis.call('EXPIRE', KEYS[1], ARGV[2])
end
return 1
