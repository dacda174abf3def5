-- An agent's job goes back into its queue: write why it waits, and the state of its open calls.
--
-- Guarantee: only the delivery that holds the job's lease writes. The journal outlives the wait.
-- KEYS  1 journal (hash)  2 record: the batch's hash, or the job's own  3 owners, of a batch's job
-- ARGV  1 owner of the lease  2 line ('' without a batch)  3 lifetime (s), which never shortens the present one
--       4 the wait (JSON)  5… fields and values: the state (JSON) of each open call, and what the agent gave up
-- Returns 1 if it was written, 0 if another delivery holds the lease.
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
