-- Ends reservations with what really happened: quota, calls in flight, money, ledger, circuit, headers and 429s.
-- Guarantee: one step; repeating a settlement changes nothing; a settlement after the end of the lease replaces what
-- was presumed.
-- KEYS  1 the clock
-- ARGV  1 the time in us, 0: the server's
--       2 ... one JSON for each reservation: limits.encoding.settlement_json
-- Returns { verdict, 1 if the circuit opened }; for several settlements a list of these
--@include limits/lua/lib/settle.lua
local now = clock(ARGV[1])
local reports, ids, ends = {}, {}, {}
for i = 2, #ARGV do
  reports[i - 1] = cjson.decode(ARGV[i])
  ids[i - 1] = reports[i - 1].id
end
fetch_all_of(ids)
for i, report in ipairs(reports) do
  local verdict, opened = settle(now, report)
  ends[i] = { verdict, opened }
end
commit()
return #ends == 1 and ends[1] or ends
