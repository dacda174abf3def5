-- Ends reservations with the truth: quota, calls in flight, money, ledger, circuit, headers and 429s.
-- Guarantee: one step; the same settlement again changes nothing; one that comes after the lease has ended
-- replaces what was presumed.
-- KEYS  1 the clock
-- ARGV  1 the time in us, 0: the server's   2 ... JSON: limits.admission.settlement_json, one for each
-- Returns { verdict, 1 if the circuit opened }; of several settlements a list of these
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
