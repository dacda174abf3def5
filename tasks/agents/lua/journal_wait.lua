-- An agent goes back into its queue: what its open calls have behind them, and why it waits.
--
-- Guarantee: only the delivery that holds the job's lease writes. The journal outlives the wait.
-- KEYS  1 journal (hash)  2 record: the batch's hash, or the job's own  3 owners, of a batch's job
-- ARGV  1 owner of the lease  2 line ('' without a batch)  3 lifetime (s), of which none is taken away
--       4 the wait (JSON)  5… field and value: the memory (JSON) of each open call, and what was given up
-- Returns 1 if it was written, else 0.
local owner
if ARGV[2] ~= '' then
  owner = redis.call('HGET', KEYS[3], ARGV[2])
else
  owner = redis.call('HGET', KEYS[2], 'owner')
end
if owner ~= ARGV[1] then
  return 0
end
redis.call('HSET', KEYS[1], 'wait', ARGV[4])
redis.call('HINCRBY', KEYS[1], 'waits', 1)
for i = 5, #ARGV, 2 do
  redis.call('HSET', KEYS[1], ARGV[i], ARGV[i + 1])
end
if redis.call('TTL', KEYS[1]) < tonumber(ARGV[3]) then
  redis.call('EXPIRE', KEYS[1], ARGV[3])
end
return 1
