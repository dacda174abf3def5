-- Reads one page of the ledger of some days.
-- Guarantee: changes nothing. A row that exists while the pages are read is in at least one of them. A page is small,
-- so a ledger of 50,000 rows delays no other script.
-- KEYS  1 the clock
-- ARGV  1 the time in us, 0: the server's
--       2 JSON: days (since 1970-01-01, UTC), which of them (from 1), the cursor within it, about how many rows
-- Returns { [{ day, row, columns as a JSON object }], which day is next (0: none), the cursor within it }. Amounts in
-- n$ are written in full, because cjson would round them to 14 digits.
--@include limits/lua/lib/namespace.lua
local asked = cjson.decode(ARGV[2])
local day = asked.days[asked.which]
if not day then return { {}, 0, '0' } end
local page = redis.call('HSCAN', ledger_key(day), asked.cursor, 'COUNT', asked.rows)
local found, entries = {}, page[2]
for i = 1, #entries, 2 do
  local columns = {}
  for name, n in pairs(cmsgpack.unpack(entries[i + 1])) do
    columns[#columns + 1] = cjson.encode(name) .. ':' .. integer(n)
  end
  found[#found + 1] = { day, entries[i], '{' .. table.concat(columns, ',') .. '}' }
end
if page[1] ~= '0' then return { found, asked.which, page[1] } end
return { found, asked.days[asked.which + 1] and asked.which + 1 or 0, '0' }
