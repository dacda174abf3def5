-- An agent's job has ended: delete its answers, which no replay needs any more. The entries stay, for its report.
--
-- Guarantee: if another round has begun, the journal keeps its answers.
-- KEYS  1 journal (hash)
-- ARGV  1 round  2 lifetime of the journal (s; '' = unchanged)  3… positions
-- Returns 1 if it deleted the answers, else 0.
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
