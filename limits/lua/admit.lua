-- Admits a call: circuit, latch, retry budget, budgets, every dimension and concurrency of each candidate, at once.
-- Guarantee: all that the call needs is taken, or nothing is; a denial changes nothing but the hint of when the
-- next one is to come back; the same id and owner get the same reservation again.
-- KEYS  1 the clock
-- ARGV  1 the time in us, 0: the server's   2 JSON: limits.admission.Ask, times in us, amounts in n$
-- Returns { 'admitted', candidate (from 0), at (us), wait (us), lease's end (us), generation, probe, sent, repeated }
--      or { 'denied', reason, subject, come back in (us), -1: never by itself, the first of all could go in (us) }
--      or { 'impossible', subject, dimension, requested, limit }
--@include limits/lua/lib/settle.lua

local SWEEP = 5                    -- ended leases that one admission clears away: more than it can add
local LATCH_RETRY = 30 * SECOND    -- how soon a latched account is asked about again
local now = clock(ARGV[1])
local ask = cjson.decode(ARGV[2])
local id = ask.id

local function flag(value) return value and 1 or 0 end

local function admitted(reservation, repeated)
  local wait = reservation.state == 'sent' and 0 or math.max(0, reservation.at - now)
  return { 'admitted', reservation.candidate, reservation.at, wait, reservation.till, reservation.generation,
    flag(reservation.probe), flag(reservation.state == 'sent'), flag(repeated) }
end

sweep(SWEEP, now)
local before = unpacked(redis.call('GET', reservation_key(id)))
if is_open(before) then
  if before.till <= now then
    expire(id, before, now)
  elseif before.owner == ask.owner then
    return admitted(before, true)
  else
    local left = math.ceil(before.till - now)
    return { 'denied', 'held', id, left, left }
  end
end

-- Everything that the candidates depend on, in one read.
local names, places = {}, {}
local function want(key)
  if not places[key] then
    names[#names + 1] = key
    places[key] = #names
  end
end
for _, candidate in ipairs(ask.candidates) do
  want(latch_key(candidate.account))
  want(circuit_key(candidate.circuit))
  for _, charge in ipairs(candidate.charges) do want(bucket_key(charge.bucket)) end
end
for _, budget in ipairs(ask.budgets) do
  want(budget_key(budget.subject, budget.window))
  if budget['until'] > 0 then want(budget_key(budget.subject, budget.next_window)) end
end
local blobs = redis.call('MGET', unpack(names))
local parsed = {}
local function state(key, read)
  if not parsed[key] then parsed[key] = read(blobs[places[key]]) end
  return parsed[key]
end
local function bucket_of(charge) return state(bucket_key(charge.bucket), read_bucket) end

-- What makes a candidate impossible for good, or nil. Only configured limits count: learned ones may recover.
local function impossible(candidate)
  for _, charge in ipairs(candidate.charges) do
    for name, limit in pairs(charge.quota.limits) do
      local cost = charge.costs[name] or 0
      if cost > limit then return { 'impossible', charge.bucket, name, cost, limit } end
    end
  end
  for _, budget in ipairs(ask.budgets) do
    if candidate.amount > budget.limit then
      return { 'impossible', budget.subject, 'usd', candidate.amount, budget.limit }
    end
  end
end

-- The first budget that cannot pay at `at`: reason, subject, when to come back (us; -1: never by itself).
local function unpaid(candidate, at)
  for _, budget in ipairs(ask.budgets) do
    local money = state(window_key(budget, at), read_budget)
    if money[SPENT] + money[HELD] + candidate.amount > budget.limit then
      if money[SPENT] + candidate.amount <= budget.limit then
        return 'budget_held', budget.subject, now + (1 + 4 * ask.jitter) * SECOND
      elseif budget['until'] > at then
        return 'budget', budget.subject, budget['until'] + 30 * ask.jitter * SECOND
      elseif budget['until'] > 0 then
        -- The asker's clock is behind the window's turn: it will name later windows soon.
        return 'budget', budget.subject, math.max(at, now) + 30 * (1 + ask.jitter) * SECOND
      end
      return 'budget', budget.subject, -1
    end
  end
end

-- When a candidate can go: { at, whys, behind, probe }, or nil and a denial { reason, subject, back, charge, at }.
local function weigh(candidate)
  if blobs[places[latch_key(candidate.account)]] then
    return nil, { reason = 'latch', subject = candidate.account, back = now + LATCH_RETRY * (1 + ask.jitter) }
  end
  local circuit = state(circuit_key(candidate.circuit), read_circuit)
  local ok, is_probe, wait = passes(circuit, now)
  if not ok then
    local spread = (SECOND + wait / 10) * ask.jitter
    return nil, { reason = 'circuit', subject = candidate.circuit, back = now + wait + spread }
  end
  if ask.retry then
    local left = retries(circuit, ask.circuit, now)
    if left < 1 then
      local earned = (1 - left + 9 * ask.jitter) / ask.circuit.retries_per_second * SECOND
      return nil, { reason = 'retry_budget', subject = candidate.circuit, back = now + earned }
    end
  end
  -- Before the dimensions, where a denial takes a place among those that come back: who cannot pay needs none.
  local broke, budget, turns = unpaid(candidate, now)
  if broke and unpaid(candidate, now + ask.max_wait) then return nil, { reason = broke, subject = budget, back = turns } end
  local plan = { at = now, whys = {}, behind = {}, probe = is_probe }
  local ahead, binding, reason = ask.max_wait, nil, nil
  for i, charge in ipairs(candidate.charges) do
    local bucket = bucket_of(charge)
    local at, why, behind = earliest(bucket, charge, now, ask.urgent)
    plan.whys[i], plan.behind[i] = why, behind
    ahead = outlook(bucket, charge, ahead, now)
    if at > plan.at then plan.at, binding, reason = at, charge, why end
    if crowded(bucket, charge.quota, now, ask.urgent) then
      return nil, { reason = 'concurrency', subject = charge.bucket, back = now, charge = charge }
    end
  end
  if plan.at - now > ahead then
    return nil, { reason = reason, subject = binding.bucket, back = plan.at, charge = binding, at = plan.at }
  end
  broke, budget, turns = unpaid(candidate, plan.at)
  if broke then return nil, { reason = broke, subject = budget, back = turns } end
  return plan
end

local chosen, plan, refused, hopeless
for i, candidate in ipairs(ask.candidates) do
  local never = impossible(candidate)
  if never then
    hopeless = hopeless or never
  else
    local possible, denial = weigh(candidate)
    if possible and (not plan or possible.at < plan.at) then
      chosen, plan = i, possible
      if plan.at <= now then break end
    elseif denial and (not refused or refused.back < 0 or (denial.back >= 0 and denial.back < refused.back)) then
      refused = denial
    end
  end
end

-- Urgent work that asks keeps its share for a while, whatever the answer.
local asked = {}
if ask.urgent then
  for _, candidate in ipairs(ask.candidates) do
    for _, charge in ipairs(candidate.charges) do
      bucket_of(charge).urgent = now
      asked[charge.bucket] = true
    end
  end
end

if not plan then
  local answer = hopeless
  if refused then
    local back, first = refused.back, refused.back
    if refused.charge then
      local bucket = bucket_of(refused.charge)
      back, first = come_back(bucket, refused.charge, refused.at or now, refused.reason, ask, now)
      asked[refused.charge.bucket] = true
    end
    local function left(till) return till < 0 and -1 or math.ceil(math.max(0, till - now)) end
    answer = { 'denied', refused.reason, refused.subject, left(back), left(first) }
  end
  for bucket in pairs(asked) do save_bucket(bucket, parsed[bucket_key(bucket)]) end
  return answer
end

local candidate = ask.candidates[chosen]
local circuit = state(circuit_key(candidate.circuit), read_circuit)
local reservation = { owner = ask.owner, state = 'held', at = plan.at, till = plan.at + ask.lease, sent = 0,
  candidate = chosen - 1, circuit = candidate.circuit, account = candidate.account, probe = plan.probe,
  parts = {}, budgets = {}, amount = candidate.amount, row = candidate.row }
if ask.send_at_once and plan.at <= now then reservation.state, reservation.sent = 'sent', now end

local held = reservation.state == 'held'
for i, charge in ipairs(candidate.charges) do
  reservation.parts[i] = take(bucket_of(charge), charge, plan.at, plan.behind[i], plan.whys[i], held, now)
  asked[charge.bucket] = true
end
for bucket in pairs(asked) do save_bucket(bucket, parsed[bucket_key(bucket)]) end

for i, budget in ipairs(ask.budgets) do
  local key = window_key(budget, plan.at)
  local money = state(key, read_budget)
  money[HELD] = money[HELD] + candidate.amount
  save(key, money, BUDGET_LIFE)
  reservation.budgets[i] = key
end

if plan.probe then probe(circuit, id, plan.at + math.min(ask.lease, ask.circuit.probe_lease * SECOND)) end
if ask.retry then spend_retry(circuit, ask.circuit, now) end
if plan.probe or ask.retry then save_circuit(candidate.circuit, circuit) end
reservation.generation = circuit.generation

save_reservation(id, reservation)
lease(id, reservation.till)
return admitted(reservation, false)
