-- Gives a whole reservation back: its request was not sent, or provably never reached the provider.
-- Guarantee: one step; a second release changes nothing; nothing enters the ledger.
-- KEYS  1 the clock
-- ARGV  1 the time in us, 0: the server's
--       2 JSON: id, owner
-- Returns { verdict, 0 }
--@include limits/lua/lib/settle.lua
local report = cjson.decode(ARGV[2])
report.amount, report.costs, report.columns, report.levels, report.throttles = 0, {}, {}, {}, {}
report.outcome, report.unmade = 'neutral', true
local verdict, opened = settle(clock(ARGV[1]), report)
commit()
return { verdict, opened }
