-- Admits calls. Checks circuit, blocked account, retry budget, budgets, every dimension and the concurrency of each
-- candidate, in one step.
-- Guarantee: a call gets everything that it needs, or nothing. A denial only changes when the next denied call should
-- ask again. The same id and owner get the same reservation again. Several calls are decided one after the other, each
-- as if it had come alone.
-- KEYS  1 the clock
-- ARGV  1 the time in us, 0: the server's
--       2 ... one JSON for each call: limits.encoding.ask_json, times in us, amounts in n$
-- Returns { 'admitted', candidate (from 0), at (us), wait (us), lease's end (us), generation, probe, sent, repeated }
--      or { 'denied', reason, subject, ask again in (us; -1: never), the first waiter can be sent in (us) }
--      or { 'impossible', subject, dimension, requested, limit }; for several calls a list of these
--@include limits/lua/lib/namespace.lua
--@include limits/lua/lib/booking.lua

local SWEEP = 5                    -- ended leases that one admission clears away: more than it can add
local BLOCKED_RETRY = 30 * SECOND  -- how soon to ask again about a blocked account
local now = clock(ARGV[1])

local function flag(value) return value and 1 or 0 end

local function admitted(reservation, repeated)
  local wait = reservation.state == 'sent' and 0 or max(0, reservation.at - now)
  return { 'admitted', reservation.candidate, reservation.at, wait, reservation.till, reservation.generation,
    flag(reservation.probe), flag(reservation.state == 'sent'), flag(repeated) }
end

-- Returns why no time would ever suit a candidate, or nil. Learned limits don't count: they may rise again.
local function impossible(candidate, ask)
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

-- Returns the first budget that cannot pay at `at`: reason, subject, when to ask again (us; -1: it will never help).
-- A budget whose money is spent comes before one whose money is only held.
local function unpaid(candidate, ask, at)
  local held
  for _, budget in ipairs(ask.budgets) do
    local money = read_budget(window_key(budget, at))
    if money[SPENT] + money[HELD] + candidate.amount > budget.limit then
      if money[SPENT] + candidate.amount <= budget.limit then
        held = held or budget.subject
      elseif budget['until'] > at then
        return 'budget', budget.subject, budget['until'] + 30 * ask.jitter * SECOND
      elseif budget['until'] > 0 then
        -- The asker's clock is behind the end of the window, so it will soon name later windows.
        return 'budget', budget.subject, max(at, now) + 30 * (1 + ask.jitter) * SECOND
      else
        return 'budget', budget.subject, -1
      end
    end
  end
  if held then return 'budget_held', held, now + (1 + 4 * ask.jitter) * SECOND end
end

-- Returns when a candidate can be sent, as { at, whys, behind, probe }; or nil and a denial, as
-- { reason, subject, back, charge, at }.
local function weigh(candidate, ask)
  local barring = blocked.barring(candidate.account, candidate.scope, now)
  if barring then
    return nil, { reason = 'latch', subject = barring, back = now + BLOCKED_RETRY * (1 + ask.jitter) }
  end
  local circuit = read_circuit(candidate.circuit)
  local ok, is_probe, wait = passes(circuit, now)
  if not ok then
    local spread = (SECOND + wait / 10) * ask.jitter
    return nil, { reason = 'circuit', subject = candidate.circuit, back = now + wait + spread }
  end
  if ask.retry then
    local settings = alike(ask.circuit)
    local saved = retries(circuit, settings, now)
    if saved < 1 then
      local earned = (1 - saved + 9 * ask.jitter) / settings.retries_per_second * SECOND
      return nil, { reason = 'retry_budget', subject = candidate.circuit, back = now + earned }
    end
  end
  -- Budgets come before dimensions: a denial by a dimension reserves a turn, which a call without money can't use.
  local broke, budget, turns = unpaid(candidate, ask, now)
  if broke and unpaid(candidate, ask, now + ask.max_wait) then
    return nil, { reason = broke, subject = budget, back = turns }
  end
  local plan = { at = now, whys = {}, behind = {}, probe = is_probe }
  local ahead, binding, reason, first = ask.max_wait, nil, nil, nil
  for i, charge in ipairs(candidate.charges) do
    local bucket = read_bucket(charge.bucket)
    local at, why, behind, unbooked = earliest(bucket, charge, now, ask.urgent)
    plan.whys[i], plan.behind[i] = why, behind
    ahead = outlook(bucket, charge, why, ahead, now)
    if at > plan.at then
      plan.at, binding, reason = at, charge, why
      -- Booked calls don't wait during a longer pause: they release their reservations.
      first = bucket.pause - now > ask.max_wait and unbooked or at
    end
    if at_concurrency(bucket, charge.quota, now, ask.urgent) then
      return nil, { reason = 'concurrency', subject = charge.bucket, back = now, charge = charge }
    end
  end
  if plan.at - now > ahead then
    return nil, { reason = reason, subject = binding.bucket, back = plan.at, charge = binding, at = first }
  end
  if plan.at > now then broke, budget, turns = unpaid(candidate, ask, plan.at) end
  if broke then return nil, { reason = broke, subject = budget, back = turns } end
  return plan
end

-- Like `weigh`, for a candidate whose target the call must not try before a time: it is denied until then.
local function weigh_from(candidate, ask)
  local plan, denial = weigh(candidate, ask)
  local from = now + candidate.not_before
  if from > now and (plan or (denial.back >= 0 and denial.back < from)) then
    return nil, { reason = 'not_before', subject = candidate.circuit, back = from }
  end
  return plan, denial
end

-- Returns the best candidate's number and its plan; or the best denial, and why the call can never be made. Fallback
-- candidates come last, and count only if no budget pays for any other.
local function choose(ask)
  local chosen, plan, refused, hopeless
  local unpaid_all = true
  for i, candidate in ipairs(ask.candidates) do
    if candidate.fallback and not unpaid_all then break end
    local never = impossible(candidate, ask)
    local possible, denial
    if never then
      hopeless = hopeless or never
    else
      possible, denial = weigh_from(candidate, ask)
      if possible and (not plan or possible.at < plan.at) then
        chosen, plan = i, possible
        if plan.at <= now then break end
      elseif denial and (not refused or refused.back < 0 or (denial.back >= 0 and denial.back < refused.back)) then
        refused = denial
      end
    end
    local unpaid_one = never and never[3] == 'usd' or denial and denial.reason == 'budget'
    unpaid_all = unpaid_all and (candidate.fallback or unpaid_one)
  end
  return chosen, plan, refused, hopeless
end

local function left(till) return till < 0 and -1 or ceil(max(0, till - now)) end

-- Answers a denied call with the time to ask again.
local function deny(refused, ask)
  local back, first = refused.back, refused.back
  if refused.charge then
    local bucket = read_bucket(refused.charge.bucket)
    back, first = retry_time(bucket, refused.charge, refused.at or now, refused.reason, ask, now)
    save_bucket(refused.charge.bucket, bucket)
  end
  return { 'denied', refused.reason, refused.subject, left(back), left(first) }
end

-- Reserves everything that a planned call needs.
local function reserve(ask, chosen, plan)
  local candidate = ask.candidates[chosen]
  local circuit = read_circuit(candidate.circuit)
  local reservation = { owner = ask.owner, state = 'held', at = plan.at, till = plan.at + ask.lease, sent = 0,
    candidate = chosen - 1, circuit = candidate.circuit, account = candidate.account, scope = candidate.scope,
    tries = blocked.begin_try(candidate.account, candidate.scope, now), probe = plan.probe,
    parts = {}, budgets = {}, amount = candidate.amount, row = candidate.row }
  if ask.send_at_once and plan.at <= now then reservation.state, reservation.sent = 'sent', now end

  local held = reservation.state == 'held'
  for i, charge in ipairs(candidate.charges) do
    local bucket = read_bucket(charge.bucket)
    reservation.parts[i] = take(bucket, charge, plan.at, plan.behind[i], plan.whys[i], held, now)
    save_bucket(charge.bucket, bucket)
  end

  for i, budget in ipairs(ask.budgets) do
    local key = window_key(budget, plan.at)
    local money = read_budget(key)
    money[HELD] = money[HELD] + candidate.amount
    save(key, money, LONGEST_LIFE)
    reservation.budgets[i] = key
  end

  if plan.probe then probe(circuit, ask.id) end
  if ask.retry then
    local settings = alike(ask.circuit)
    spend_retry(circuit, settings, now)
    reservation.retry = settings.most_retries
  end
  if plan.probe or ask.retry then save_circuit(candidate.circuit, circuit) end
  reservation.generation = circuit.generation

  save_reservation(ask.id, reservation)
  lease(ask.id, reservation.till)
  return admitted(reservation, false)
end

local function decide(ask)
  local before = read_reservation(ask.id)
  if is_open(before) then
    if before.till <= now then
      expire(ask.id, before, now)
    elseif before.owner == ask.owner then
      return admitted(before, true)
    else
      local ends = left(before.till)
      return { 'denied', 'held', ask.id, ends, ends }
    end
  end
  for _, candidate in ipairs(ask.candidates) do
    for _, charge in ipairs(candidate.charges) do stated.count(charge, read_bucket(charge.bucket)) end
  end
  local chosen, plan, refused, hopeless = choose(ask)
  if ask.urgent then
    -- Urgent work keeps its share for a while after it asks, whatever the answer.
    for _, candidate in ipairs(ask.candidates) do
      for _, charge in ipairs(candidate.charges) do
        local bucket = read_bucket(charge.bucket)
        bucket.urgent = now
        save_bucket(charge.bucket, bucket)
      end
    end
  end
  if plan then return reserve(ask, chosen, plan) end
  return refused and deny(refused, ask) or hopeless
end

local function read_ask(text)
  local ask = cjson.decode(text)
  ask.budgets = alike(ask.budgets)
  for _, candidate in ipairs(ask.candidates) do
    for _, charge in ipairs(candidate.charges) do charge.quota = alike(charge.quota) end
  end
  return ask
end

-- Reads everything that the calls depend on, in one command.
local function fetch_all_for(asks)
  local names = {}
  local function want(key) names[#names + 1] = key end
  for _, ask in ipairs(asks) do
    want(reservation_key(ask.id))
    for _, candidate in ipairs(ask.candidates) do
      want(block_key(candidate.account))
      if candidate.scope ~= '' then want(block_key(candidate.scope)) end
      want(circuit_key(candidate.circuit))
      for _, charge in ipairs(candidate.charges) do want(bucket_key(charge.bucket)) end
    end
    for _, budget in ipairs(ask.budgets) do
      want(budget_key(budget.subject, budget.window))
      if budget['until'] > 0 then want(budget_key(budget.subject, budget.next_window)) end
    end
  end
  fetch(names)
end

local asks, answers = {}, {}
for i = 2, #ARGV do asks[i - 1] = read_ask(ARGV[i]) end
sweep(SWEEP, now)
fetch_all_for(asks)
for i, ask in ipairs(asks) do answers[i] = decide(ask) end
commit()
return #answers == 1 and answers[1] or answers
