-- Settling a part of a reservation: one call of a chunk, which has one reservation for all of its calls.
--
-- report.part = { held = the n$ of the reservation that are this call's, place = its place in the chunk, from 0 }
-- Guarantee: each place is settled once. What the chunk still holds never falls below zero.

local function parts_key(id) return reservation_key(id) .. ':parts' end

-- Returns the verdict of limits.reservation.Settled, and 0: no part opens a circuit.
local function settle_part(now, report)
  local id = report.id
  local reservation = read_reservation(id)
  if not reservation or reservation.owner ~= report.owner then return 'unknown', 0 end
  if reservation.state == 'settled' or redis.call('SETBIT', parts_key(id), report.part.place, 1) == 1 then
    return 'repeated', 0
  end
  redis.call('EXPIRE', parts_key(id), LONGEST_LIFE / SECOND)
  local in_time = is_open(reservation)
  local held = min(report.part.held, reservation.amount)
  if in_time then
    move_money(reservation.budgets, -held, report.amount)
  else
    -- The sweep has counted what the chunk held as spent.
    move_money(reservation.budgets, 0, report.amount - held)
    if reservation.day then enter(reservation.day, reservation.row, { presumed_cost = -held }) end
  end
  local columns = report.columns
  if report.amount > 0 then columns[report.presumed and 'presumed_cost' or 'cost'] = report.amount end
  enter(floor(now / DAY), reservation.row, columns)
  reservation.amount = reservation.amount - held
  save(reservation_key(id), reservation, in_time and LONGEST_LIFE or SWEPT_LIFE)
  return in_time and 'settled' or 'corrected', 0
end
