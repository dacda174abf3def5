-- Latches an account with a reason, or clears it.
-- Guarantee: the first reason stays until it is cleared.
-- KEYS  1 the clock
-- ARGV  1 the time in us, 0: the server's   2 JSON: account, reason ('': clear)
-- Returns 1 if that changed anything
--@include limits/lua/lib/namespace.lua
clock(ARGV[1])
local ask = cjson.decode(ARGV[2])
if ask.reason == '' then return redis.call('DEL', latch_key(ask.account)) end
return redis.call('SET', latch_key(ask.account), ask.reason, 'PX', integer(90 * DAY / 1000), 'NX') and 1 or 0
