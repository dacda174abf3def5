-- Record the state of a schedule's run.
--
-- Guarantee: a run that has become a batch keeps it, whatever a slower process records later.
-- KEYS  1 schedule (hash)
-- ARGV  1 scheduled_for  2 run (JSON)  3 lifetime (s)
-- Returns 1 if it was recorded, 0 if the run is a batch already.
local before = redis.call('HGET', KEYS[1], ARGV[1])
if before and cjson.decode(before).state == 'ran' then
  return 0
end
redis.call('HSET', KEYS[1], ARGV[1], ARGV[2])
redis.call('EXPIRE', KEYS[1], ARGV[3])
return 1
