-- A bucket's levels: when a call fits, what it takes, and what it gives back.
--
-- bucket = {
--   pause      no call goes out before (us)            throttled  when the last 429 was learnt of (us)
--   strikes    429s in a row that told no wait         shift      by how much all booked calls were postponed, ever (us)
--   last       latest time given to a call (us)        hint       when the next denied call is to come back (us)
--   flight     reservations open                       gap, done  mean time between ends, and the last end (us)
--   took       mean time of a call (us), 0 while none has ended
--   urgent     when urgent work last asked (us)        lane       when the urgent lane is free again (us)
--   pace, slot, eased, told       see pace.lua
--   falls      how often a burst has fallen back, nil: never
--   dims       a table of the fields below for each dimension
-- }

local TAT = 1        -- theoretical arrival time: how far the admitted calls have run (us)
local RETURNED = 2   -- us of the rate given back by settlements, ever
local LEFT = 3       -- units of calls that have left, ever
local BURST = 4      -- learned burst (s)
local GROWN = 5      -- when growth was last looked at (us)
local PRESSED = 6    -- when a call was last denied for this dimension (us)
local HOLD = 7       -- the burst does not grow before (us)
local HOLDS = 8      -- how often it has fallen back
local SEEN = 9       -- when the request with the newest header left (us)
local TOLD = 10      -- the limit that headers told, 0 if none
local LIMIT = 11     -- the limit configured
local HEADROOM = 12  -- the part of it that is used
local FIXED = 13     -- the burst configured (s), 0 for "auto"
local BOOKED = 14    -- what admitted calls that have not left yet take up of TAT (us)
local OUT = 15       -- how far the calls that have left have run, as TAT counts those admitted (us)
local MOST = 16      -- the most that headers ever told to be left, as seconds of the rate; -1: they never told
local EMPTY = 17     -- the units of LEFT at which nothing is left, by the headers of the newest answer; -1: not told
local SHOWN = 18     -- as that and when its request left, of the answer that showed least in this second, and in the one
                     -- before, and when this one began; false: none has

local MINUTE = 60 * SECOND
local PERIOD = { rpm = MINUTE, tpm = MINUTE, itpm = MINUTE, otpm = MINUTE, rpd = DAY, tpd = DAY }
local BUCKET_LIFE = 8 * DAY
local URGENT_MEMORY = 60 * SECOND  -- how long urgent work keeps its share after it last asked
local HINT_SPAN = 300 * SECOND     -- denied calls are strung out over at most this
local PLACE_SPAN = 30 * SECOND     -- those for whom there is no place, over this: when one comes free is a guess
local PACE_SPAN = 10 * SECOND      -- those who wait for a learned pace, over this: it grows quicker meanwhile
local GROWTH_SPAN = 5 * SECOND     -- those who wait for a burst that grows or comes back, over this: room comes sooner
local OUTLOOK = SECOND             -- while a burst grows fast, nobody is booked further ahead: all may go sooner
local LOOK = 4 * SECOND / 5        -- who stands in line asks again after so long: a burst may have grown
local FIRST_HOLD = 60 * SECOND     -- a burst that fell back stays for this, then twice, four times ... as long
local LONGEST_HOLD = 3600 * SECOND
local WINDOW = SECOND              -- so much of what headers told is left for a provider that counts by the second
local HEADERS_FRESH = 300 * SECOND -- headers older than this say nothing about how to grow
local LATE = SECOND / 20           -- a call that comes later than this has to wait for its turn
local FEW = 3                      -- whose headers never told of more seconds of the rate counts by the second

local function new_bucket()
  return { pause = 0, throttled = 0, strikes = 0, shift = 0, last = 0, hint = 0, flight = 0, gap = SECOND / 4, done = 0,
    took = 0, urgent = 0, lane = 0, pace = 0, slot = 0, eased = 0, told = 0, dims = {} }
end

local function read_bucket(id) return value_or(bucket_key(id), new_bucket) end

local function save_bucket(id, bucket) save(bucket_key(id), bucket, BUCKET_LIFE) end

-- The state of one dimension under the quota as configured now.
local function dimension(bucket, quota, name, limit)
  local dim = bucket.dims[name]
  if not dim then
    dim = { 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, limit, quota.headroom, quota.burst, 0, 0, -1, -1, false }
    bucket.dims[name] = dim
  end
  dim[LIMIT], dim[HEADROOM], dim[FIXED] = limit, quota.headroom, quota.burst
  return dim
end

-- Microseconds that one unit takes to refill, under the lower of the configured and the told limit.
local function interval(dim, name)
  local limit = dim[LIMIT]
  if dim[TOLD] > 0 and dim[TOLD] < limit then limit = dim[TOLD] end
  return PERIOD[name] / (limit * dim[HEADROOM])
end

-- Microseconds in which the provider gives one unit back, by the limit that headers told.
local function refill(dim, name) return PERIOD[name] / ((dim[TOLD] > 0 and dim[TOLD] or dim[LIMIT]) * dim[HEADROOM]) end

-- How much may go out at once, as time of the rate (us). A day's quota may be used at any pace.
local function capacity(dim, name)
  if PERIOD[name] == DAY then return DAY end
  return (dim[FIXED] > 0 and dim[FIXED] or dim[BURST]) * SECOND
end

-- Whether calls leave evenly: a second of the rate is all there is, or all that is known to be, and a provider that
-- counts by the second has no room for two calls more in one.
local function even(dim, name) return capacity(dim, name) <= SECOND end

-- How much of that may leave at once of calls that are late: so little that it fits into what a provider that counts
-- by the second has left of one.
local function catching_up(dim, name) return max(capacity(dim, name) - 3 * SECOND / 4, SECOND / 4) end

-- A call leaves, or is given the time at which it will: `width` us of the rate.
local function runs_out(dim, name, width, now)
  dim[OUT] = max(dim[OUT], now - catching_up(dim, name)) + width
end

-- Whether batch work has to leave urgent work its share.
local function reserved(bucket, now) return bucket.urgent > 0 and now - bucket.urgent < URGENT_MEMORY end

-- The earliest time at which a charge fits, what it waits for, and when it would fit behind all booked calls.
-- Urgent work goes before all that have not left yet, while its lane is free. Changes nothing.
local function earliest(bucket, charge, now, urgent)
  local from, why = max(now, bucket.pause), ''
  if paced(bucket, charge.quota.limits) and bucket.slot > from then from, why = bucket.slot, 'pace' end
  local behind, ahead = from, from
  local quota = charge.quota
  local part = (not urgent and reserved(bucket, now)) and 1 - quota.urgent_share or 1
  for name, limit in pairs(quota.limits) do
    local cost = charge.costs[name] or 0
    if cost > 0 then
      local dim = dimension(bucket, quota, name, limit)
      local width = cost * interval(dim, name)
      local fits = ceil(dim[TAT] + width - max(capacity(dim, name) * part, width))
      if fits > behind then behind, why = fits, name end
      ahead = max(ahead, ceil(fits - dim[BOOKED]))
    end
  end
  if bucket.pause > now then why = 'pause' end
  return urgent and bucket.lane <= now and ahead or behind, why, behind
end

-- Whether a call more would exceed the calls in flight.
local function crowded(bucket, quota, now, urgent)
  local limit = quota.concurrency
  if limit == 0 then return false end
  if not urgent and limit > 1 and reserved(bucket, now) then
    limit = limit - max(1, floor(limit * quota.urgent_share))
  end
  return bucket.flight >= limit
end

-- By how much all booked calls are postponed for a charge that goes before them (us), `ahead` from when the first of
-- them may leave: they leave after it, and by what it takes up later than they would have.
local function way(bucket, charge, at, ahead)
  local room = 0
  for name, limit in pairs(charge.quota.limits) do
    local dim = dimension(bucket, charge.quota, name, limit)
    local width = (charge.costs[name] or 0) * interval(dim, name)
    local fits = dim[TAT] + width - max(capacity(dim, name), width) <= at
    room = max(room, fits and min(width, ahead) or width)
  end
  return ahead + room
end

-- How far a burst may grow (s), how fast (s a second), and whether headers say that there is room; nothing where it is
-- fixed or has fallen back lately.
local function growth(dim, name, now)
  if dim[FIXED] > 0 or PERIOD[name] == DAY or now < dim[HOLD] then return end
  local left = dim[MOST] or -1
  local told = left >= 0 and now - dim[SEEN] < HEADERS_FRESH and dim[TOLD] <= dim[LIMIT]
  local most = told and min(60, max(1, left)) or 60
  if dim[BURST] >= most then return end
  return most, told and max(1, 0.7 * dim[BURST]) or max(0.3, 0.087 * dim[BURST]), told
end

-- Whether a pause may end with room for many: headers tell what is left, and have told of many at once.
local function opens_wide(dim, name, now)
  if PERIOD[name] ~= MINUTE or dim[FIXED] > 0 then return false end
  return (dim[MOST] or -1) > FEW and now - dim[SEEN] < HEADERS_FRESH
end

-- How far TAT would have run by what the latest answers have shown to be left, 0 where none has.
local function shown_level(dim, name, now)
  local shown, unit = dim[SHOWN], refill(dim, name)
  if not shown then return 0 end
  local empty = min(shown[1] + (now - shown[2]) / unit, shown[3] + (now - shown[4]) / unit)
  local used = PERIOD[name] / dim[HEADROOM] - (empty - dim[LEFT] - dim[BOOKED] / interval(dim, name)) * unit
  return now + max(0, used) - (PERIOD[name] - capacity(dim, name)) / dim[HEADROOM]
end

-- How far ahead a call may be booked of the `most` that the asker allows (us): not far where a burst may grow, or where
-- nothing is known yet.
local function outlook(bucket, charge, most, now)
  for name, limit in pairs(charge.quota.limits) do
    if PERIOD[name] == MINUTE and (charge.costs[name] or 0) > 0 then
      local dim = dimension(bucket, charge.quota, name, limit)
      local _, _, fast = growth(dim, name, now)
      local unknown = bucket.done == 0 and bucket.throttled == 0 and dim[FIXED] == 0
      if fast or unknown then most = min(most, OUTLOOK) end
    end
  end
  return most
end

-- A learned burst grows while calls have to wait for it: fast where headers tell what is left, no further than that has
-- ever been, and without making room that it has not; else slowly enough that the first 429 is noticed a few calls
-- after the provider's burst is passed.
local function grow(dim, name, now, wanted)
  local elapsed = min(now - dim[GROWN], SECOND) / SECOND
  dim[GROWN] = now
  local most, speed, told = growth(dim, name, now)
  if not most or not wanted and now - dim[PRESSED] > SECOND then return end
  dim[BURST] = min(most, dim[BURST] + elapsed * speed)
  if told then dim[TAT] = max(dim[TAT], shown_level(dim, name, now)) end
end

-- Takes a charge at time `at`, `behind` which other calls may be booked; `held`: it does not leave at once.
-- Returns what the reservation keeps of it:
-- { bucket, shift, dims = { name = { cost, us a unit, end of its stretch of the rate, units that had left with it (-1
--   before), us booked } } }. The end is kept as if nothing had ever been given back: later returns move it by their
--   sum.
local function take(bucket, charge, at, behind, why, held, now)
  local part = { bucket = charge.bucket, dims = {} }
  local jump, ahead = 0, 0
  if at < behind then
    ahead = at - max(now, bucket.pause)
    jump = way(bucket, charge, at, ahead)
    bucket.shift = bucket.shift + jump
    bucket.last = bucket.last + jump
    bucket.lane = at + jump / max(charge.quota.urgent_share, 0.01)
  end
  for name, limit in pairs(charge.quota.limits) do
    local cost = charge.costs[name] or 0
    local dim = dimension(bucket, charge.quota, name, limit)
    local each = interval(dim, name)
    local width = cost * each
    if cost > 0 then
      grow(dim, name, now, why == name)
      if not held then
        dim[LEFT] = dim[LEFT] + cost
        runs_out(dim, name, width, now)
      end
    end
    local ends = max(dim[TAT] - (jump > 0 and dim[BOOKED] or 0), at) + width
    if jump > 0 and dim[BOOKED] > 0 then
      dim[TAT] = max(dim[TAT] + max(jump, ahead + width), ends)
    elseif cost > 0 then
      dim[TAT] = ends
    end
    if held then dim[BOOKED] = dim[BOOKED] + width end
    part.dims[name] = { cost, each, ends + dim[RETURNED], held and -1 or dim[LEFT], held and width or 0 }
  end
  if paced(bucket, charge.quota.limits) then part.pace = bucket.pace; next_slot(bucket, at) end
  part.shift, part.falls = bucket.shift, bucket.falls
  bucket.last = max(bucket.last, at)
  bucket.flight = bucket.flight + 1
  return part
end

-- A booked call was postponed with all others; moves its stretch along. Returns by how much (us).
local function follow(bucket, part)
  local moved = bucket.shift - part.shift
  part.shift = bucket.shift
  for _, mine in pairs(part.dims) do mine[3] = mine[3] + moved end
  return moved
end

-- A booked call gives its place up.
local function unbook(bucket, part)
  for name, mine in pairs(part.dims) do
    local dim = bucket.dims[name]
    if dim then dim[BOOKED] = max(0, dim[BOOKED] - mine[5]) end
    mine[5] = 0
  end
end

-- Whether a booked call takes a turn: where a worker was held up, its calls would all leave at once, and where
-- a burst has fallen back, those that were booked while it grew leave too quickly.
local function needs_turn(bucket, part, late) return part.falls ~= bucket.falls or (late and not part.turn) end

-- When such a call may leave, 0 for now. It gets one turn, one more after each fall, and is counted with it.
local function turn(bucket, part, now)
  local at, takes = now, {}
  for name, mine in pairs(part.dims) do
    local dim = bucket.dims[name]
    if dim and mine[5] > 0 then
      at = max(at, ceil(dim[OUT]))
      takes[name] = mine[5]
    end
  end
  if at == now then return 0 end
  for name, width in pairs(takes) do runs_out(bucket.dims[name], name, width, now) end
  part.turn, part.falls = true, bucket.falls
  return at
end

-- A late call that leaves among others has all that are booked leave later by what it takes up, where calls leave evenly.
local function make_way(bucket, part, now)
  if bucket.last <= now then return end
  local room = 0
  for name, mine in pairs(part.dims) do
    local dim = bucket.dims[name]
    if dim and even(dim, name) then room = max(room, mine[5]) end
  end
  for _, dim in pairs(bucket.dims) do dim[TAT] = dim[TAT] + room end
  bucket.shift, bucket.last = bucket.shift + room, bucket.last + room
  follow(bucket, part)
end

-- A booked call leaves. Where it is late (a worker was held up, or another limit keeps it), the bucket has been refilled
-- since its time, and what it and all that are still booked take up lies ahead of now.
local function depart(bucket, part, now)
  for name, mine in pairs(part.dims) do
    local dim = bucket.dims[name]
    local width = mine[5]
    if dim then
      dim[TAT] = max(dim[TAT], now + dim[BOOKED])
      mine[3] = max(mine[3], now + width + dim[RETURNED])
      dim[LEFT] = dim[LEFT] + mine[1]
      mine[4] = dim[LEFT]
      if not part.turn then runs_out(dim, name, width, now) end
    end
  end
  unbook(bucket, part)
end

-- When a denied call is to come back, so that those denied before it come first and no two at once: one step
-- after the one before, where a step is what the call takes up in the dimension that it waits for. They come early
-- enough to be admitted ahead; a slot cannot be had ahead. Who stands in a worker's line comes for all who stand
-- behind it, and takes no turn. Returns that time, and when the first of all could go.
local function come_back(bucket, charge, at, why, ask, now)
  local ahead = outlook(bucket, charge, ask.max_wait, now)
  local step, early, span = 0, ahead / 2, HINT_SPAN
  if paced(bucket, charge.quota.limits) then step, span = bucket.pace, PACE_SPAN end
  if why == 'concurrency' then
    -- Places come free at this interval while all of them are taken. The time between ends says less: it grows where
    -- calls come back late, and they would come later and later. A little sooner, so that no place waits for a call.
    -- Where none has ended yet, they take at least as long as nothing has happened.
    local took = bucket.took > 0 and bucket.took or max(SECOND / 10, now - bucket.last)
    step, early, span = 0.8 * took / charge.quota.concurrency, 0, PLACE_SPAN
    at = now + step
  end
  for name, limit in pairs(charge.quota.limits) do
    if name == why or (why == 'pause' and PERIOD[name] == MINUTE) then
      local dim = dimension(bucket, charge.quota, name, limit)
      step = max(step, (charge.costs[name] or 0) * interval(dim, name))
      if name == why then dim[PRESSED] = now end
      local soon
      if why == 'pause' then soon = opens_wide(dim, name, now) else soon = growth(dim, name, now) end
      if soon then span = min(span, GROWTH_SPAN) end
    end
  end
  if ask.in_line and early > 0 then early = max(early, ahead - LOOK) end
  local first = max(at - early, now)
  if ask.in_line then return first, first end
  local back = max(first, bucket.hint)
  if back > first + span then return first + ask.jitter * span, first end
  bucket.hint = back + step
  return back, first
end

-- Replaces what a call had reserved by what it used. Only that part of its stretch of the rate can be given back
-- which lies behind now and behind every booked call: the bucket has been refilled by then, for calls that got
-- their times by that, and would be refilled twice.
local function correct(bucket, part, used, now)
  for name, mine in pairs(part.dims) do
    local dim = bucket.dims[name]
    local over = (used[name] or mine[1]) - mine[1]
    if dim and over > 0 then
      dim[TAT] = max(dim[TAT], now) + over * mine[2]
      dim[LEFT] = dim[LEFT] + over
    elseif dim and over < 0 then
      local ends = min(mine[3] - dim[RETURNED], dim[TAT])  -- headers may have moved all
      local ahead = max(0, ends - max(now, bucket.last))
      local back = min(-over * mine[2], ahead)
      dim[TAT] = dim[TAT] - back
      dim[RETURNED] = dim[RETURNED] + back
    end
    mine[1] = mine[1] + over
  end
end

-- A call is no longer in flight; `took` is how long it was, nil where it never was or is not known.
local function land(bucket, now, took)
  bucket.flight = max(0, bucket.flight - 1)
  if took then bucket.took = bucket.took > 0 and bucket.took * 0.8 + took * 0.2 or took end
  local gap = min(now - bucket.done, MINUTE)
  if bucket.done > 0 then bucket.gap = bucket.gap * 0.9 + gap * 0.1 end
  bucket.done = now
end
