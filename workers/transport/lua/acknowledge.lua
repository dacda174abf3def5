#!lua flags=allow-oom
-- Forgets messages whose work is done.
--
-- KEYS  1 unacked (hash)  2 unacked_index (zset)  3 in_flight (hash)
-- ARGV  delivery tags
-- Returns how many of them were still in flight.
--@include workers/transport/lua/lib/message.lua
local done = 0
for _, tag in ipairs(ARGV) do
  redis.call('ZREM', KEYS[2], tag)
  if redis.call('HDEL', KEYS[1], tag) == 1 then
    count(KEYS[3], queue_of(list_of(tag)), -1)
    done = done + 1
  end
end
return done
