-- Booking: when a call fits into its buckets, what it takes of them, and when a denied call should ask again.

local HINT_SPAN = 300 * SECOND        -- denied calls are spread over at most this
local CONCURRENCY_SPAN = 30 * SECOND  -- calls that wait for concurrency, over this: when one ends is a guess
local PACE_SPAN = 10 * SECOND         -- calls that wait for a learned pace, over this: it gets faster while they wait
local GROWTH_SPAN = 5 * SECOND        -- calls that wait for a burst that grows or comes back, over this
local REPORTED_SPAN = 2 * SECOND      -- calls that wait for a dimension that headers report on, over this
local UNKNOWN = SECOND                -- while nothing is known about a bucket, no call is booked further ahead
local GROWING = SECOND / 4            -- nor further than this while a burst grows fast or comes back
local AGAIN = SECOND / 4              -- and then they ask again after this
local LOOK = 4 * SECOND / 5           -- how soon a waitlist asks again: a burst may have grown

-- Returns the earliest time at which a charge fits, what it waits for, and when it would fit behind all booked calls.
-- Urgent work goes ahead of all unsent calls, if its lane is free. Changes nothing but what the provider has given
-- back.
local function earliest(bucket, charge, now, urgent)
  local from, why = max(now, bucket.pause), ''
  if paced(bucket, charge.quota.limits) and bucket.slot > from then from, why = bucket.slot, 'pace' end
  local behind, ahead = from, from
  local quota = charge.quota
  local part = (not urgent and reserved(bucket, now)) and 1 - quota.urgent_share or 1
  for name, limit in pairs(quota.limits) do
    local cost, dim = charge.costs[name] or 0, dimension(bucket, quota, name, limit, now)
    if cost > 0 then
      take_back(bucket, dim, name, now)
      local width = cost * interval(dim, name)
      local fits = ceil(dim[TAT] + width - max(capacity(dim, name) * part, width))
      if fits > behind then behind, why = fits, name end
      ahead = max(ahead, ceil(fits - dim[BOOKED]))
    end
  end
  if bucket.pause > now then why = 'pause' end
  return urgent and bucket.lane <= now and ahead or behind, why, behind, ahead
end

-- Whether one more call would exceed the calls in flight that are allowed.
local function at_concurrency(bucket, quota, now, urgent)
  local limit = quota.concurrency
  if limit == 0 then return false end
  if not urgent and limit > 1 and reserved(bucket, now) then
    limit = limit - max(1, floor(limit * quota.urgent_share))
  end
  return bucket.flight >= limit
end

-- Returns by how much (us) all booked calls are postponed for a charge that goes ahead of them. `ahead`: us until the
-- first of them may be sent. They are sent after the charge, and later by what it takes up.
local function postponement(bucket, charge, at, ahead, now)
  local room = 0
  for name, limit in pairs(charge.quota.limits) do
    local dim = dimension(bucket, charge.quota, name, limit, now)
    local width = (charge.costs[name] or 0) * interval(dim, name)
    local fits = dim[TAT] + width - max(capacity(dim, name), width) <= at
    room = max(room, fits and min(width, ahead) or width)
  end
  return ahead + room
end

-- Returns how far ahead a call may be booked (us), at most `most`. Not far if the burst that it waits for (`why`) may
-- grow, if a burst is about to come back, or if nothing is known yet.
local function outlook(bucket, charge, why, most, now)
  for name, limit in pairs(charge.quota.limits) do
    if PERIOD[name] == MINUTE and (charge.costs[name] or 0) > 0 then
      local dim = dimension(bucket, charge.quota, name, limit, now)
      local _, _, fast = growth(dim, name, now)
      local nothing = bucket.done == 0 and bucket.throttled == 0 and dim[FIXED] == 0
      if fast and (why == name or why == 'pause') or returns_quickly(dim, name, max(now, bucket.pause), now) then
        most = min(most, GROWING)
      elseif nothing then
        most = min(most, UNKNOWN)
      end
    end
  end
  return most
end

-- A learned burst grows while calls have to wait for it. If headers report what is left, it grows fast, up to the most
-- that was ever left, and makes room only for what is surely left. Otherwise it grows slowly enough that the first 429
-- comes a few calls after the provider's burst is used up.
local function grow(dim, name, now, wanted)
  local elapsed = min(now - dim[GROWN], SECOND) / SECOND
  dim[GROWN] = now
  local most, speed, reported = growth(dim, name, now)
  if not most or not wanted and now - dim[PRESSED] > SECOND then return end
  local more = min(most - dim[BURST], elapsed * speed)
  dim[BURST] = dim[BURST] + more
  if reported then
    -- A full bucket stays full.
    local before = max(dim[TAT], now)
    dim[TAT] = max(dim[TAT], min(before + more * SECOND, surely_shown(dim, name, now)))
  end
end

-- Takes a charge at time `at`. Other calls may be booked, up to `behind`. `held`: the call is not sent at once.
-- Returns the reservation's part:
-- { bucket, shift, dims = { name = { cost, us a unit, end of its stretch of the rate, units sent up to and including it
--   (-1 before it is sent), us booked, units whose calls had ended when it was sent, units that may have been given
--   back by then } } }. The end is stored as if nothing had ever been given back: later refunds move it by their sum.
local function take(bucket, charge, at, behind, why, held, now)
  local part = { bucket = charge.bucket, dims = {} }
  local jump, ahead = 0, 0
  if at < behind then
    ahead = at - max(now, bucket.pause)
    jump = postponement(bucket, charge, at, ahead, now)
    bucket.shift = bucket.shift + jump
    bucket.last = bucket.last + jump
    bucket.lane = at + jump / max(charge.quota.urgent_share, 0.01)
  end
  for name, limit in pairs(charge.quota.limits) do
    local cost = charge.costs[name] or 0
    local dim = dimension(bucket, charge.quota, name, limit, now)
    local each = interval(dim, name)
    local width = cost * each
    if cost > 0 then
      grow(dim, name, now, why == name)
      if not held then
        dim[SENT] = dim[SENT] + cost
        mark(dim, name, now)
      end
    end
    local ends = max(dim[TAT] - (jump > 0 and dim[BOOKED] or 0), at) + width
    if jump > 0 and dim[BOOKED] > 0 then
      dim[TAT] = max(dim[TAT] + max(jump, ahead + width), ends)
    elseif cost > 0 then
      dim[TAT] = ends
    end
    if held then dim[BOOKED] = dim[BOOKED] + width end
    part.dims[name] = { cost, each, ends + dim[RETURNED], held and -1 or dim[SENT], held and width or 0, dim[DONE],
      returning(dim, now) }
  end
  if paced(bucket, charge.quota.limits) then next_slot(bucket, at) end
  part.shift, part.voids = bucket.shift, bucket.voids or 0
  bucket.last = max(bucket.last, at)
  bucket.flight = bucket.flight + 1
  if not held then note_sent(bucket, now) end
  return part
end

-- Returns when a denied call should ask again, and when the first waiter could be sent. Calls that were denied earlier
-- come first, and no two come at once: each comes one step after the one before, and a step is what the call takes up
-- in the dimension that it waits for. They come early enough to be booked ahead, which concurrency can't be. A waitlist
-- asks for all of its waiters, so it takes no turn.
local function retry_time(bucket, charge, at, why, ask, now)
  local ahead = outlook(bucket, charge, why, ask.max_wait, now)
  local step, early, span, more = 0, ahead / 2, HINT_SPAN, nil
  if paced(bucket, charge.quota.limits) then step, span = bucket.pace, PACE_SPAN end
  if why == 'concurrency' then
    -- While the bucket is at its concurrency, a call ends at this interval on average. The interval between the last
    -- ends is a worse guess: it grows when calls ask late, and then they would ask later and later. Ask a little
    -- sooner, so that no free slot waits for a call. If no call has ended yet, calls take at least the time since the
    -- last one was admitted.
    local took = bucket.took > 0 and bucket.took or max(SECOND / 10, now - bucket.last)
    step, early, span = 0.8 * took / charge.quota.concurrency, 0, CONCURRENCY_SPAN
    at = now + step
  end
  for name, limit in pairs(charge.quota.limits) do
    if name == why or (why == 'pause' and PERIOD[name] == MINUTE) then
      local dim = dimension(bucket, charge.quota, name, limit, now)
      step = max(step, (charge.costs[name] or 0) * interval(dim, name))
      if name == why then
        dim[PRESSED] = now
        more = next_return(dim, name, now)
      end
      local grows, _, reported = growth(dim, name, now)
      local quick = why ~= 'pause' and returns_quickly(dim, name, now, now)
      if quick or why == 'pause' and opens_wide(dim, name, now) or why ~= 'pause' and grows then
        span = min(span, (reported or quick) and REPORTED_SPAN or GROWTH_SPAN)
      end
    end
  end
  if ask.for_waitlist and early > 0 then early = max(early, ahead - LOOK) end
  local first = max(at - early, now)
  if more then first = min(first, more) end
  if ask.for_waitlist then
    if ahead < ask.max_wait and why ~= 'pause' and first - now < GROWTH_SPAN then first = min(first, now + AGAIN) end
    return first, first
  end
  local back = max(first, bucket.hint)
  if back > first + span then return first + ask.jitter * span, first end
  bucket.hint = back + step
  return back, first
end
