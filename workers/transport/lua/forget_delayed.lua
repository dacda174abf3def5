-- Drops delayed messages when their queue is purged.
--
-- KEYS  1 delayed (zset)  2 delayed_messages (hash)  3 delayed_counts (hash)
-- ARGV  tags
-- Returns how many messages were dropped.
--@include workers/transport/lua/lib/message.lua
local done = 0
for _, tag in ipairs(ARGV) do
  redis.call('HDEL', KEYS[2], tag)
  if redis.call('ZREM', KEYS[1], tag) == 1 then
    count(KEYS[3], queue_of(list_of(tag)), -1)
    done = done + 1
  end
end
return done
