-- Makes a dead letter of a message that is not in Redis: one from RabbitMQ.
--
-- KEYS  1 dead (stream)
-- ARGV  1 list  2 reason  3 message
--       4 ms for which a dead letter is kept  5 dead letters kept  6 bytes of dead letters kept
-- Returns the id of the dead letter.
--@include workers/transport/lua/lib/message.lua
return add_dead_letter(KEYS[1], ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5], ARGV[6])
