-- Note how a night of a schedule stands.
--
-- Guarantee: a night that has become a batch keeps it, whatever a slower process says of it later.
-- KEYS  1 schedule (hash)
-- ARGV  1 slot  2 night (JSON)  3 lifetime (s)
-- Returns 1 if it was noted, 0 if the night is a batch already.
local before = redis.call('HGET', KEYS[1], ARGV[1])
if before and cjson.decode(before).state == 'ran' then
  return 0
end
redis.call('HSET', KEYS[1], ARGV[1], ARGV[2])
redis.call('EXPIRE', KEYS[1], ARGV[3])
return 1
