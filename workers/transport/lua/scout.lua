-- Looks for messages that a stock producer has pushed, which touches no key of ours.
--
-- KEYS  1 ready (set)  2 wake (list)  3.. lists
-- ARGV  1 prefix of every key, that a list's name in `ready` goes without
-- Returns how many lists were found to hold messages unknown so far.
--@include workers/transport/lua/lib/message.lua
-- Of all that are looked for, seldom is one there: one command tells so.
if #KEYS < 3 or redis.call('EXISTS', unpack(KEYS, 3)) == 0 then return 0 end
local found = 0
for i = 3, #KEYS do
  if redis.call('EXISTS', KEYS[i]) == 1 then
    found = found + redis.call('SADD', KEYS[1], string.sub(KEYS[i], #ARGV[1] + 1))
  end
end
if found > 0 then wake_one(KEYS[2]) end
return found
