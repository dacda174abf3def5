#!lua flags=allow-oom
-- Moves claimed messages to the delayed set until their time.
--
-- Guarantee: a message is in `unacked` or in `delayed`. One that was restored before this call stays in its queue.
-- KEYS  1 unacked (hash)  2 unacked_index (zset)  3 in_flight (hash)
--       4 delayed (zset)  5 delayed_messages (hash)  6 delayed_counts (hash)
-- ARGV  three for each message: tag, µs from now, the new message ('': unchanged)
-- Returns how many messages were delayed.
--@include workers/transport/lua/lib/message.lua
local now, done = clock(), 0
for i = 1, #ARGV, 3 do
  local tag = ARGV[i]
  local message = take(KEYS[1], KEYS[2], KEYS[3], tag)
  if message then
    redis.call('HSET', KEYS[5], tag, ARGV[i + 2] ~= '' and ARGV[i + 2] or message)
    redis.call('ZADD', KEYS[4], us(now + ARGV[i + 1]), tag)
    count(KEYS[6], queue_of(list_of(tag)), 1)
    done = done + 1
  end
end
return done
