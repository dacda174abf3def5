-- Departures: when a booked call may leave that is late, or was booked before a burst fell back, and what its leaving
-- changes.

local LATE = SECOND / 20           -- a call that comes later than this has to wait for its turn

-- Whether calls leave evenly: a second of the rate is all there is, or all that is known to be, and a provider that
-- counts by the second has no room for two calls more in one.
local function even(dim, name) return capacity(dim, name) <= SECOND end

-- Whether a booked call takes a turn: where a worker was held up, its calls would all leave at once, and where
-- a burst has fallen back, those that were booked while it grew leave too quickly.
local function needs_turn(bucket, part, late) return part.falls ~= bucket.falls or (late and not part.turn) end

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

-- The dimensions in which a booked call leaves by the provider's seconds.
local function by_seconds(bucket, part, now)
  local found = {}
  for name, mine in pairs(part.dims) do
    local dim = bucket.dims[name]
    if dim and mine[5] > 0 and seconds.hold(bucket, dim, name, now) then found[name] = dim end
  end
  return found
end

-- Whether a call that was to leave at `at` comes too late to leave at once.
local function is_late(bucket, part, at, now)
  if next(by_seconds(bucket, part, now)) then return seconds.before(bucket, at, now) end
  return now - at > LATE
end

-- When a call may leave whose second is over: in the next one that has room, behind all that are booked; nil if it does
-- not leave by seconds.
local function another_second(bucket, part, late, now)
  local at
  for name, dim in pairs(by_seconds(bucket, part, now)) do
    at = at or now
    if late then
      local mine = part.dims[name]
      local share = seconds.share(bucket, dim, mine[5], now)
      at = max(at, seconds.leaving(bucket, share))
      dim[TAT] = share + mine[5] + SECOND
      mine[3] = dim[TAT] + dim[RETURNED]
    end
  end
  if not at then return nil end
  part.turn, part.falls = part.turn or late, bucket.falls
  bucket.last = max(bucket.last, at)
  return at
end

-- When such a call may leave, 0 for now. It gets one turn, one more after each fall, and is counted with it.
local function turn(bucket, part, late, now)
  if late and not part.turn then make_way(bucket, part, now) end
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

-- A booked call leaves. Where it is late (a worker was held up, or another limit keeps it), the bucket has been refilled
-- since its time, and what it and all that are still booked take up lies ahead of now.
local function mark_sent(bucket, part, now)
  for name, mine in pairs(part.dims) do
    local dim = bucket.dims[name]
    local width = mine[5]
    if dim then
      dim[TAT] = max(dim[TAT], now + dim[BOOKED])
      mine[3] = max(mine[3], now + width + dim[RETURNED])
      dim[SENT] = dim[SENT] + mine[1]
      mark(dim, name, now)
      mine[4], mine[6], mine[7] = dim[SENT], dim[DONE], returning(dim, now)
      if not part.turn then runs_out(dim, name, width, now) end
    end
  end
  unbook(bucket, part)
  note_sent(bucket, now)
end
