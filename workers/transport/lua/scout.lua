-- Finds messages that a stock producer has pushed: it does not touch `ready` or `wake`.
--
-- KEYS  1 ready (set)  2 wake (list)  3.. lists
-- ARGV  1 prefix of every key, which list names in `ready` do not include
-- Returns how many lists hold messages and were not in `ready`.
--@include workers/transport/lua/lib/message.lua
-- Usually none of the lists exists, and one command is enough to know.
if #KEYS < 3 or redis.call('EXISTS', unpack(KEYS, 3)) == 0 then return 0 end
local found = 0
for i = 3, #KEYS do
  if redis.call('EXISTS', KEYS[i]) == 1 then
    found = found + redis.call('SADD', KEYS[1], string.sub(KEYS[i], #ARGV[1] + 1))
  end
end
if found > 0 then wake_one(KEYS[2]) end
return found
