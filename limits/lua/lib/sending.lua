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
