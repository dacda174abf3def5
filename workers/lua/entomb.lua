-- Adds a message to the dead list that no transport of ours holds: one from RabbitMQ.
--
-- KEYS  1 dead (stream)
-- ARGV  1 list  2 reason  3 message  4 how long the list keeps a message (ms)  5 how many it keeps
-- Returns its id.
local id = redis.call('XADD', KEYS[1], 'MAXLEN', '~', ARGV[5], '*', 'list', ARGV[1], 'reason', ARGV[2],
  'message', ARGV[3])
redis.call('PEXPIRE', KEYS[1], ARGV[4])
return id
