-- An idle tick has something to do: it is due now.
--
-- Guarantee: a tick that is running, or due soon anyway, is not changed.
-- KEYS  1 ticks (zset: tick -> us)  2 idle ticks (set)
-- ARGV  1 tick
-- Returns 1 if it was idle, else 0.
--@include tasks/jobs/lua/lib/wake.lua
if redis.call('SREM', KEYS[2], ARGV[1]) == 0 then
  return 0
end
wake(KEYS[1], ARGV[1])
return 1
