-- Ends a reservation with the truth: quota, calls in flight, money, ledger, circuit, headers and 429s.
-- Guarantee: one step; the same settlement again changes nothing; one that comes after the lease has ended
-- replaces what was presumed.
-- KEYS  1 the clock
-- ARGV  1 the time in us, 0: the server's   2 JSON: limits.admission.settlement_json
-- Returns { verdict, 1 if the circuit opened }
--@include limits/lua/lib/settle.lua
local verdict, opened = settle(clock(ARGV[1]), cjson.decode(ARGV[2]))
return { verdict, opened }
