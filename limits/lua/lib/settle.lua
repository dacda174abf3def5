-- Settling, for settle.lua and for scripts of other packages that end a job in one step:
--
--     --@include limits/lua/lib/settle.lua
--     local now = clock(ARGV[1])                                -- '0', or a test's time in us
--     local verdict, opened = settle(now, cjson.decode(ARGV[2]))  -- ARGV[2]: limits.encoding.settlement_json(...)
--     ...
--     commit()                                                  -- writes everything; required
--
-- KEYS[1] must be the namespace's clock key (limits.keys.Keys.clock); all other keys follow from it.
-- Returns the verdict of limits.reservation.Settled, and 1 if the settlement opened the circuit.

--@include limits/lua/lib/namespace.lua
--@include limits/lua/lib/provider.lua
--@include limits/lua/lib/part.lua

-- Returns the 429s of a settlement by bucket.
local function by_bucket(throttles)
  local found = {}
  for _, reported in ipairs(throttles) do found[reported.bucket] = reported end
  return found
end

local function settle(now, report)
  local id = report.id
  fetch_all_of({ id })
  if report.part then return settle_part(now, report) end
  local reservation = read_reservation(id)
  if not reservation or reservation.owner ~= report.owner then return 'unknown', 0 end
  if reservation.state == 'settled' then return 'repeated', 0 end

  local in_time = is_open(reservation)
  local sent = reservation.sent > 0 and reservation.sent or reservation.at
  local throttles = by_bucket(report.throttles)
  for i, part in ipairs(reservation.parts) do
    local bucket = read_bucket(part.bucket)
    if reservation.state == 'held' then
      follow(bucket, part)
      unbook(bucket, part)
    end
    if in_time then ended(bucket, part) end
    if report.costs then correct(bucket, part, report.costs[i] or NOTHING, now) end
    if in_time then end_flight(bucket, now, reservation.sent > 0 and now - reservation.sent or nil) end
    local levels = report.levels[part.bucket]
    local reported = throttles[part.bucket]
    if levels then observe(bucket, levels, sent, part, now, reported) end
    if reported then
      throttle(bucket, reported, sent, part, now)
    elseif report.outcome == 'ok' and sent > bucket.throttled then
      bucket.strikes = 0
      speed_up(bucket, now)
    end
    if report.outcome == 'ok' and not report.failed then stated.test(bucket, levels, sent, now) end
    save_bucket(part.bucket, bucket)
  end

  local opened = 0
  if report.outcome == 'neutral' then
    withdraw_probe(id, reservation)
    if report.unmade and in_time then withdraw_retry(reservation) end
  else
    local circuit = read_circuit(reservation.circuit)
    opened = record(circuit, alike(report.circuit), reservation, id, report.outcome, report.jitter, now)
    if report.outcome == 'ok' and not report.failed then blocked.record_answer(reservation, circuit, now) end
    save_circuit(reservation.circuit, circuit)
  end

  local columns = report.columns
  if report.amount > 0 then
    columns[report.presumed and 'presumed_cost' or report.failed and 'failed_cost' or 'cost'] = report.amount
    if report.presumed then columns.presumed = (columns.presumed or 0) + 1 end
  end
  if in_time then
    move_money(reservation.budgets, -reservation.amount, report.amount)
  else
    -- The sweep has counted reservation.amount as spent: 0 if the call had not been sent.
    move_money(reservation.budgets, 0, report.amount - reservation.amount)
    if reservation.state == 'presumed' then
      enter(reservation.day, reservation.row, { presumed_cost = -reservation.amount, presumed = -1 })
    end
  end
  enter(floor(now / DAY), reservation.row, columns)

  save(reservation_key(id), { owner = reservation.owner, state = 'settled' }, SETTLED_LIFE)
  leases[id] = false
  return in_time and 'settled' or 'corrected', opened
end
