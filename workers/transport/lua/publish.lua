-- Puts messages at the end of a queue, and wakes an idle worker if the queue was empty.
--
-- Guarantee: `ready` contains the name of each list that holds messages.
-- KEYS  1 ready (set)  2 wake (list)  3 the queue's list
-- ARGV  1 the list's name in `ready`  2.. messages; none if the caller has pushed them
-- Returns 1 if `ready` did not contain the list, else 0.
--@include workers/transport/lua/lib/message.lua
for i = 2, #ARGV do redis.call('LPUSH', KEYS[3], ARGV[i]) end
local new = redis.call('SADD', KEYS[1], ARGV[1])
if new == 1 then wake_one(KEYS[2]) end
return new
