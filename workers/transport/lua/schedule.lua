-- Publishes a message that is to be delivered later.
--
-- Guarantee: a tag is in `delayed` only once, however often this is called.
-- KEYS  1 delayed (zset)  2 delayed_messages (hash)  3 delayed_counts (hash)
-- ARGV  1 tag  2 µs from now  3 message
-- Returns 1 if the tag is new, else 0.
--@include workers/transport/lua/lib/message.lua
local new = redis.call('ZADD', KEYS[1], us(clock() + ARGV[2]), ARGV[1])
redis.call('HSET', KEYS[2], ARGV[1], ARGV[3])
if new == 1 then count(KEYS[3], queue_of(list_of(ARGV[1])), 1) end
return new
