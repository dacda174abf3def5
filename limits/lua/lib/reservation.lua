-- Reservations and the end of their leases.
--
-- reservation = {
--   owner, candidate, circuit, account, scope, row    as in the ask
--   state       'held' -> 'sent' -> 'settled'; or when the lease ends, 'expired' (never sent: everything is given back)
--               or 'presumed' (sent: the money counts as spent until the real cost is known)
--   at          when the call may be sent (us)
--   till        when the lease ends (us)
--   sent        when it was sent (us), 0: it was not
--   tries       whether it tries a blocked account
--   generation  the circuit's
--   probe       whether it is the circuit's probe
--   retry       how many retries may be saved; nil: the call is no retry
--   parts       what it took of each bucket: see take
--   budgets     the keys of their windows
--   amount      n$ held
--   day         of the ledger, once the cost is presumed
-- }

local SETTLED_LIFE = 30 * SECOND  -- how long a repeated settlement is recognised
local SWEPT_LIFE = DAY            -- how long a swept reservation can be corrected
local NOTHING = setmetatable({}, { __index = function() return 0 end })

local function is_open(reservation)
  return reservation ~= nil and (reservation.state == 'held' or reservation.state == 'sent')
end

-- Stored until it is swept, even if no worker runs for months: a budget must not outlive what holds its money.
local function save_reservation(id, reservation)
  save(reservation_key(id), reservation, LONGEST_LIFE)
end

-- Starts the lease, or starts it again.
local function lease(id, till) leases[id] = till end

local function read_reservation(id) return value(reservation_key(id)) end

local function fetch_reservations(ids)
  local names = {}
  for i, id in ipairs(ids) do names[i] = reservation_key(id) end
  fetch(names)
end

-- Reads some reservations, and everything that their ends may change, in few commands.
local function fetch_all_of(ids)
  fetch_reservations(ids)
  local names = {}
  for _, id in ipairs(ids) do
    local reservation = read_reservation(id)
    if reservation and reservation.state ~= 'settled' then
      for _, part in ipairs(reservation.parts) do names[#names + 1] = bucket_key(part.bucket) end
      for _, key in ipairs(reservation.budgets) do names[#names + 1] = key end
      names[#names + 1] = circuit_key(reservation.circuit)
      names[#names + 1] = block_key(reservation.account)
      names[#names + 1] = block_key(reservation.scope or '')
    end
  end
  fetch(names)
end

-- A probe ended without a verdict: the next one may go.
local function withdraw_probe(id, reservation)
  if not reservation.probe then return end
  local circuit = read_circuit(reservation.circuit)
  if circuit.probe == id then
    circuit.probe = ''
    save_circuit(reservation.circuit, circuit)
  end
end

-- A retry was never sent: another call may make it.
local function withdraw_retry(reservation)
  if not reservation.retry then return end
  local circuit = read_circuit(reservation.circuit)
  return_retry(circuit, reservation.retry)
  save_circuit(reservation.circuit, circuit)
end

-- Ends a reservation whose lease is over.
local function expire(id, reservation, now)
  local was_sent = reservation.state == 'sent'
  for _, part in ipairs(reservation.parts) do
    local bucket = read_bucket(part.bucket)
    if not was_sent then
      follow(bucket, part)
      unbook(bucket, part)
      correct(bucket, part, NOTHING, now)
    end
    ended(bucket, part)
    end_flight(bucket, now)
    save_bucket(part.bucket, bucket)
  end
  withdraw_probe(id, reservation)
  if not was_sent then withdraw_retry(reservation) end
  local amount = reservation.amount
  move_money(reservation.budgets, -amount, was_sent and amount or 0)
  if was_sent then
    reservation.day = floor(now / DAY)
    enter(reservation.day, reservation.row, { presumed_cost = amount, presumed = 1 })
  else
    reservation.amount = 0
  end
  reservation.state = was_sent and 'presumed' or 'expired'
  save(reservation_key(id), reservation, SWEPT_LIFE)
  leases[id] = false
end

-- Ends up to `most` reservations whose lease is over. Returns how many.
local function sweep(most, now)
  local due = redis.call('ZRANGE', LEASES, '-inf', integer(now), 'BYSCORE', 'LIMIT', 0, most)
  fetch_all_of(due)
  for _, id in ipairs(due) do
    local reservation = read_reservation(id)
    if is_open(reservation) then
      expire(id, reservation, now)
    else
      leases[id] = false
    end
  end
  return #due
end
