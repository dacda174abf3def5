-- Puts messages at a queue's end, and wakes an idle worker if the queue was empty.
--
-- Guarantee: a message that is in a list is in a list that `ready` names.
-- KEYS  1 ready (set)  2 wake (list)  3 the queue's list
-- ARGV  1 the list's name in `ready`  2.. messages; none: the caller has pushed them itself
-- Returns 1 if the list was not known to hold messages, else 0.
--@include workers/transport/lua/lib/message.lua
for i = 2, #ARGV do redis.call('LPUSH', KEYS[3], ARGV[i]) end
local new = redis.call('SADD', KEYS[1], ARGV[1])
if new == 1 then wake_one(KEYS[2]) end
return new
