-- Sending: when a booked call must ask again, and what sending changes.

local LATE = SECOND / 4  -- a later call asks again: a worker that stalled would send all of its calls at once

-- Whether a booked call must ask again. Its time may come from a burst or a pace that has proved too fast.
local function outdated(bucket, part, at, now) return is_void(bucket, part) or now - at > LATE end

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
    end
  end
  unbook(bucket, part)
  note_sent(bucket, now)
end
