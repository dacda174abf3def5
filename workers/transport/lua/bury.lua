-- Sets a message aside that no worker can read.
--
-- Guarantee: it is in `unacked` or in the dead list; buried twice, it is there once.
-- KEYS  1 unacked (hash)  2 unacked_index (zset)  3 in_flight (hash)  4 dead (stream)
-- ARGV  1 tag  2 reason  3 how long the list keeps a message (ms)  4 how many it keeps  5 how many bytes of them
-- Returns the message's id in the dead list, or '' where it is claimed by nobody.
--@include workers/transport/lua/lib/message.lua
local message = take(KEYS[1], KEYS[2], KEYS[3], ARGV[1])
if not message then return '' end
return entomb(KEYS[4], list_of(ARGV[1]), ARGV[2], message, ARGV[3], ARGV[4], ARGV[5])
