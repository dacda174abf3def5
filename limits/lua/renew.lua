-- Extends the leases of reservations.
-- Guarantee: a lease is never made shorter. Reservations that have ended, or have another owner, are not touched.
-- KEYS  1 the clock
-- ARGV  1 the time in us, 0: the server's
--       2 JSON: ids, owner, lease (us from now)
-- Returns the ids of reservations that were not renewed
--@include limits/lua/lib/namespace.lua
local now = clock(ARGV[1])
local ask = cjson.decode(ARGV[2])
fetch_reservations(ask.ids)
local lost = {}
for _, id in ipairs(ask.ids) do
  local reservation = read_reservation(id)
  if is_open(reservation) and reservation.owner == ask.owner then
    reservation.till = max(reservation.till, now + ask.lease)
    save_reservation(id, reservation)
    lease(id, reservation.till)
  else
    lost[#lost + 1] = id
  end
end
commit()
return lost
