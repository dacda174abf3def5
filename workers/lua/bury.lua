-- Sets a message aside that no worker can read.
--
-- Guarantee: it is in `unacked` or in the dead list; buried twice, it is there once.
-- KEYS  1 unacked (hash)  2 unacked_index (zset)  3 in_flight (hash)  4 dead (stream)
-- ARGV  1 tag  2 reason  3 how long the list keeps a message (ms)  4 how many it keeps
-- Returns the message's id in the dead list, or '' where it is claimed by nobody.
--@include workers/lua/lib/message.lua
local message = take(KEYS[1], KEYS[2], KEYS[3], ARGV[1])
if not message then return '' end
local oldest = us(math.floor(clock() / 1000) - tonumber(ARGV[3]))
redis.call('XTRIM', KEYS[4], 'MINID', oldest)
local id = redis.call('XADD', KEYS[4], 'MAXLEN', '~', ARGV[4], '*', 'list', list_of(ARGV[1]), 'reason', ARGV[2],
  'message', message)
redis.call('PEXPIRE', KEYS[4], ARGV[3])
return id
