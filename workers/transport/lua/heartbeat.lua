#!lua flags=allow-oom
-- Says that a worker still has these messages.
--
-- KEYS  1 unacked_index (zset)
-- ARGV  delivery tags
-- Returns the tags that are this worker's no longer: their messages were restored.
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
