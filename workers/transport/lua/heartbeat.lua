#!lua flags=allow-oom
-- Keeps messages from being restored: their worker still has them.
--
-- KEYS  1 unacked_index (zset)
-- ARGV  delivery tags
-- Returns the tags whose messages were restored to other workers.
--@include workers/transport/lua/lib/message.lua
local now, gone = us(clock()), {}
for _, tag in ipairs(ARGV) do
  if redis.call('ZSCORE', KEYS[1], tag) then
    redis.call('ZADD', KEYS[1], 'XX', now, tag)
  else
    gone[#gone + 1] = tag
  end
end
return gone
