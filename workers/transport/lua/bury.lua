-- Makes a claimed message a dead letter: no worker can run it.
--
-- Guarantee: the message is in `unacked` or in `dead`, and in `dead` only once however often this is called.
-- KEYS  1 unacked (hash)  2 unacked_index (zset)  3 in_flight (hash)  4 dead (stream)
-- ARGV  1 tag  2 reason
--       3 ms for which a dead letter is kept  4 dead letters kept  5 bytes of dead letters kept
-- Returns the id of the dead letter, or '' if no worker has claimed the message.
--@include workers/transport/lua/lib/message.lua
local message = take(KEYS[1], KEYS[2], KEYS[3], ARGV[1])
if not message then return '' end
return add_dead_letter(KEYS[4], list_of(ARGV[1]), ARGV[2], message, ARGV[3], ARGV[4], ARGV[5])
