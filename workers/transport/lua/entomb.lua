-- Adds a message to the dead list that no transport of ours holds: one from RabbitMQ.
--
-- KEYS  1 dead (stream)
-- ARGV  1 list  2 reason  3 message  4 how long the list keeps a message (ms)  5 how many it keeps  6 how many bytes of
--       them
-- Returns its id.
--@include workers/transport/lua/lib/message.lua
return entomb(KEYS[1], ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5], ARGV[6])
