-- Reads the ledger of some days.
-- Guarantee: whole days as of one moment; changes nothing but the clock.
-- KEYS  1 the clock
-- ARGV  1 the time in us, 0: the server's   2 JSON: days (since 1970-01-01, UTC)
-- Returns [{ day, row, columns as a JSON object }]; n$ are written in full, which cjson would round to 14 digits
--@include limits/lua/lib/namespace.lua
clock(ARGV[1])
local found = {}
for _, day in ipairs(cjson.decode(ARGV[2]).days) do
  local entries = redis.call('HGETALL', ledger_key(day))
  for i = 1, #entries, 2 do
    local columns = {}
    for name, n in pairs(cmsgpack.unpack(entries[i + 1])) do
      columns[#columns + 1] = cjson.encode(name) .. ':' .. integer(n)
    end
    found[#found + 1] = { day, entries[i], '{' .. table.concat(columns, ',') .. '}' }
  end
end
return found
