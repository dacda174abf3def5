-- Booking: when a call fits into its buckets, what it takes of them, and when one that does not fit is to come back.

local HINT_SPAN = 300 * SECOND     -- denied calls are strung out over at most this
local CONCURRENCY_SPAN = 30 * SECOND     -- those for whom there is no place, over this: when one comes free is a guess
local PACE_SPAN = 10 * SECOND      -- those who wait for a learned pace, over this: it grows quicker meanwhile
local GROWTH_SPAN = 5 * SECOND     -- those who wait for a burst that grows or comes back, over this: room comes sooner
local REPORTED_SPAN = 2 * SECOND       -- those who wait for one of which headers tell, over this
local UNKNOWN = SECOND             -- while nothing is known yet, nobody is booked further ahead
local GROWING = SECOND / 4         -- nor further than this while a burst grows fast or comes back: all may go sooner
local AGAIN = SECOND / 4           -- and after so long while it grows fast
local LOOK = 4 * SECOND / 5        -- who stands in line asks again after so long: a burst may have grown

-- The earliest time at which a charge fits, what it waits for, and when it would fit behind all booked calls.
-- Urgent work goes before all that have not left yet, while its lane is free. Changes nothing but what has come back.
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
      if not urgent and seconds.hold(bucket, dim, name, now) then
        fits = seconds.leaving(bucket, seconds.share(bucket, dim, width, max(now, bucket.pause)))
      else
        fits = max(fits, seconds.second_one(bucket, dim, name, width, now) or fits)
      end
      if fits > behind then behind, why = fits, name end
      ahead = max(ahead, ceil(fits - dim[BOOKED]))
    end
  end
  if bucket.pause > now then why = 'pause' end
  return urgent and bucket.lane <= now and ahead or behind, why, behind, ahead
end

-- Whether a call more would exceed the calls in flight.
local function at_concurrency(bucket, quota, now, urgent)
  local limit = quota.concurrency
  if limit == 0 then return false end
  if not urgent and limit > 1 and reserved(bucket, now) then
    limit = limit - max(1, floor(limit * quota.urgent_share))
  end
  return bucket.flight >= limit
end

-- By how much all booked calls are postponed for a charge that goes before them (us), `ahead` from when the first of
-- them may leave: they leave after it, and by what it takes up later than they would have.
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

-- How far ahead a call may be booked of the `most` that the asker allows (us): not far where the burst that it waits for
-- (`why`) may grow, where one is about to come back, or where nothing is known yet.
local function outlook(bucket, charge, why, most, now)
  for name, limit in pairs(charge.quota.limits) do
    if PERIOD[name] == MINUTE and (charge.costs[name] or 0) > 0 then
      local dim = dimension(bucket, charge.quota, name, limit, now)
      local _, _, fast = growth(dim, name, now)
      local nothing = bucket.done == 0 and bucket.throttled == 0 and dim[FIXED] == 0
      local width = charge.costs[name] * interval(dim, name)
      if seconds.second_one(bucket, dim, name, width, now) then
        most = 0
      elseif fast and (why == name or why == 'pause') or returns_quickly(dim, name, max(now, bucket.pause), now) then
        most = min(most, GROWING)
      elseif nothing then
        most = min(most, UNKNOWN)
      end
    end
  end
  return most
end

-- A learned burst grows while calls have to wait for it: fast where headers tell what is left, no further than that has
-- ever been, and making no room but what is surely left; else slowly enough that the first 429 is noticed a few calls
-- after the provider's burst is passed.
local function grow(dim, name, now, wanted)
  local elapsed = min(now - dim[GROWN], SECOND) / SECOND
  dim[GROWN] = now
  local most, speed, reported = growth(dim, name, now)
  if not most or not wanted and now - dim[PRESSED] > SECOND then return end
  local more = min(most - dim[BURST], elapsed * speed)
  dim[BURST] = dim[BURST] + more
  if reported then
    -- What was full before stays as full.
    local before = max(dim[TAT], now)
    dim[TAT] = max(dim[TAT], min(before + more * SECOND, surely_shown(dim, name, now)))
  end
end

-- Takes a charge at time `at`, `behind` which other calls may be booked; `held`: it does not leave at once.
-- Returns what the reservation keeps of it:
-- { bucket, shift, dims = { name = { cost, us a unit, end of its stretch of the rate, units that had left with it (-1
--   before), us booked, units whose calls had ended when it left, and that may have come back then } } }. The end is
--   kept as if nothing had ever been given back: later returns move it by their sum.
local function take(bucket, charge, at, behind, why, held, now)
  local part = { bucket = charge.bucket, dims = {} }
  local jump, ahead, by_seconds = 0, 0, false
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
        runs_out(dim, name, width, now)
      end
    end
    local ends = max(dim[TAT] - (jump > 0 and dim[BOOKED] or 0), at) + width
    if cost > 0 and seconds.hold(bucket, dim, name, now) then
      ends, by_seconds = seconds.share(bucket, dim, width, at) + width + SECOND, true
    end
    if jump > 0 and dim[BOOKED] > 0 then
      dim[TAT] = max(dim[TAT] + max(jump, ahead + width), ends)
    elseif cost > 0 then
      dim[TAT] = ends
    end
    if held then dim[BOOKED] = dim[BOOKED] + width end
    part.dims[name] = { cost, each, ends + dim[RETURNED], held and -1 or dim[SENT], held and width or 0, dim[DONE],
      returning(dim, now) }
  end
  if paced(bucket, charge.quota.limits) then part.pace = bucket.pace; next_slot(bucket, at) end
  part.shift, part.falls = bucket.shift, bucket.falls
  bucket.last = max(bucket.last, at)
  if not by_seconds then seconds.interrupt(bucket) end
  bucket.flight = bucket.flight + 1
  if not held then note_sent(bucket, now) end
  return part
end

-- When a denied call is to come back, so that those denied before it come first and no two at once: one step
-- after the one before, where a step is what the call takes up in the dimension that it waits for. They come early
-- enough to be admitted ahead; a slot cannot be had ahead. Who stands in a worker's line comes for all who stand
-- behind it, and takes no turn. Returns that time, and when the first of all could go.
local function retry_time(bucket, charge, at, why, ask, now)
  local ahead = outlook(bucket, charge, why, ask.max_wait, now)
  local step, early, span, more = 0, ahead / 2, HINT_SPAN, nil
  if paced(bucket, charge.quota.limits) then step, span = bucket.pace, PACE_SPAN end
  if why == 'concurrency' then
    -- Places come free at this interval while all of them are taken. The time between ends says less: it grows where
    -- calls come back late, and they would come later and later. A little sooner, so that no place waits for a call.
    -- Where none has ended yet, they take at least as long as nothing has happened.
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
        if seconds.second_one(bucket, dim, name, step, now) then more = now + AGAIN end
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
