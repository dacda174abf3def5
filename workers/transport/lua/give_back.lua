#!lua flags=allow-oom
-- Puts claimed messages back into their queues, marked as delivered before.
--
-- Guarantee: a message is put back only if it is still in `unacked`.
-- KEYS  1 unacked (hash)  2 unacked_index (zset)  3 in_flight (hash)  4 ready (set)  5 wake (list)
-- ARGV  1 prefix of every key  2 'first' (before all others) or 'last' (after them)  3.. delivery tags
-- Returns how many messages were put back.
--@include workers/transport/lua/lib/message.lua
local done = 0
for i = 3, #ARGV do
  local message = take(KEYS[1], KEYS[2], KEYS[3], ARGV[i])
  if message then
    local list = list_of(ARGV[i])
    redis.call(ARGV[2] == 'first' and 'RPUSH' or 'LPUSH', ARGV[1] .. list, (marked(message)))
    redis.call('SADD', KEYS[4], list)
    done = done + 1
  end
end
if done > 0 then wake_one(KEYS[5]) end
return done
