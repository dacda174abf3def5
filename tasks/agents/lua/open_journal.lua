-- A delivery of an agent's job opens the job's journal, and reads what earlier deliveries wrote.
--
-- Guarantee: a journal begins once and always has a lifetime. A new round counts money and calls from zero.
-- KEYS  1 journal (hash)
-- ARGV  1 round  2 lifetime (s)  3 now (µs; '' = the server's)
-- Returns the fields and values of the hash.
--@include tasks/jobs/lua/lib/clock.lua
local now = now_or(ARGV[3])
local round = redis.call('HGET', KEYS[1], 'round')
if round ~= ARGV[1] then
  redis.call('HSET', KEYS[1], 'round', ARGV[1], 'began', string.format('%d', now), 'cost', 0, 'calls', 0,
    'input_tokens', 0, 'output_tokens', 0, 'throttled', 0)
  redis.call('HSETNX', KEYS[1], 'born', string.format('%d', now))
  -- Calls that the last round left open or gave up start over, with all their attempts.
  for _, name in ipairs(redis.call('HKEYS', KEYS[1])) do
    if name == 'wait' or string.sub(name, 1, 2) == 'o:' or string.sub(name, 1, 2) == 'g:' then
      redis.call('HDEL', KEYS[1], name)
    end
  end
end
redis.call('EXPIRE', KEYS[1], ARGV[2])
return redis.call('HGETALL', KEYS[1])
