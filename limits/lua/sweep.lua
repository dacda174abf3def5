-- Ends reservations whose lease is over: unsent ones are given back, sent ones count as spent.
-- Guarantee: bounded work; each reservation ends once.
-- KEYS  1 the clock
-- ARGV  1 the time in us, 0: the server's
--       2 JSON: most
-- Returns { how many ended, 1 if more may be due }
--@include limits/lua/lib/namespace.lua
local now = clock(ARGV[1])
local most = cjson.decode(ARGV[2]).most
local ended = sweep(most, now)
commit()
return { ended, ended == most and 1 or 0 }
