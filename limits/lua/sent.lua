-- Marks a reservation as sent, right before the request; or says why it may not be sent (yet). A caller that was held
-- up after marking may ask again, and learns of a pause that began since.
-- Guarantee: nothing is sent before its time or long after it, during a pause, to an open circuit or to a blocked
-- account.
-- KEYS  1 the clock
-- ARGV  1 the time in us, 0: the server's
--       2 JSON: id, owner
-- Returns { verdict (limits.reservation.SendPermit), wait (us), reason }
--@include limits/lua/lib/namespace.lua
--@include limits/lua/lib/sending.lua
local now = clock(ARGV[1])
local ask = cjson.decode(ARGV[2])
local id = ask.id
fetch_all_of({ id })
local reservation = read_reservation(id)
if not reservation or reservation.owner ~= ask.owner or reservation.state == 'settled' then
  return { 'unknown', 0, '' }
end
if reservation.state == 'held' and reservation.till <= now then
  expire(id, reservation, now)
  commit()
end
if not is_open(reservation) then return { 'swept', 0, '' } end

if not reservation.tries and (blocked.active(reservation.account) or blocked.active(reservation.scope or '')) then
  return { 'revoked', 0, 'latch' }
end
local circuit = read_circuit(reservation.circuit)
if circuit.state ~= 'closed' and circuit.probe ~= id then return { 'revoked', 0, 'circuit' } end

local moved, pause = 0, 0
local buckets = {}
for i, part in ipairs(reservation.parts) do
  buckets[i] = read_bucket(part.bucket)
  pause = max(pause, buckets[i].pause)
end
if reservation.state == 'sent' then
  if pause > now then return { 'wait', ceil(pause - now), 'pause' } end
  return { 'sent', 0, '' }
end

for i, part in ipairs(reservation.parts) do moved = max(moved, follow(buckets[i], part)) end
local at = max(reservation.at + moved, pause)
for i, part in ipairs(reservation.parts) do
  if outdated(buckets[i], part, at, now) then return { 'revoked', 0, 'outdated' } end
end
if at > now then
  local later = at - reservation.at
  if later > 0 then
    reservation.at, reservation.till = at, reservation.till + later
    save_reservation(id, reservation)
    lease(id, reservation.till)
  end
  commit()
  return { 'wait', ceil(at - now), pause > now and 'pause' or '' }
end
reservation.state, reservation.sent = 'sent', now
for i, part in ipairs(reservation.parts) do
  mark_sent(buckets[i], part, now)
  save_bucket(part.bucket, buckets[i])
end
save_reservation(id, reservation)
commit()
return { 'sent', 0, '' }
