-- Sending: when a booked call may be sent that is late, or was booked before a burst fell back; and what sending
-- changes.

local LATE = SECOND / 20  -- a call that comes later than this waits for a turn

-- Whether calls are sent evenly: all there is, or is known to be, is a second of the rate. A provider that counts by
-- the second has no room for two more calls in one second.
local function even(dim, name) return capacity(dim, name) <= SECOND end

-- Whether a booked call needs a turn. The calls of a stalled worker would all be sent at once; and calls that were
-- booked before a burst fell back would be sent too fast.
local function needs_turn(bucket, part, late) return part.falls ~= bucket.falls or (late and not part.turn) end

-- If calls are sent evenly, a late call that is sent among others postpones all booked ones by what it takes up.
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

-- Returns the dimensions in which a booked call is sent by the provider's seconds.
local function by_seconds(bucket, part, now)
  local found = {}
  for name, mine in pairs(part.dims) do
    local dim = bucket.dims[name]
    if dim and mine[5] > 0 and seconds.hold(bucket, dim, name, now) then found[name] = dim end
  end
  return found
end

-- Whether a call that was booked for `at` is too late to be sent at once.
local function is_late(bucket, part, at, now)
  if next(by_seconds(bucket, part, now)) then return seconds.before(bucket, at, now) end
  return now - at > LATE
end

-- Returns when a call whose second is over may be sent: in the next second with room, behind all booked calls. Returns
-- nil if the call is not sent by seconds.
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

-- Returns when such a call may be sent, 0 for now. It gets one turn, and one more after each fall of a burst.
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

-- A booked call is sent. If it is late (its worker stalled, or another limit held it), the bucket has been refilled
-- since its time, so what this call and all booked calls take up lies ahead of now.
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
