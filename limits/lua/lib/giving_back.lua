-- What a call gives back, and how it stops being booked or in flight. Needs bucket.lua.

-- Moves a booked call's stretch along with all others that were postponed. Returns by how much (us).
local function follow(bucket, part)
  local moved = bucket.shift - part.shift
  part.shift = bucket.shift
  for _, mine in pairs(part.dims) do mine[3] = mine[3] + moved end
  return moved
end

-- A call is no longer booked.
local function unbook(bucket, part)
  for name, mine in pairs(part.dims) do
    local dim = bucket.dims[name]
    if dim and not is_void(bucket, part) then dim[BOOKED] = max(0, dim[BOOKED] - mine[5]) end
    mine[5] = 0
  end
end

-- Replaces what a call reserved by what it used. A refund can only reach the part of the call's stretch that lies after
-- now and after every booked call. The part before that has been refilled already, for calls whose times count on it,
-- and would be refilled twice. During a pause, a booked call can refund everything, because no booked call has a time
-- before the pause ends.
local function correct(bucket, part, used, now)
  for name, mine in pairs(part.dims) do
    local dim = bucket.dims[name]
    if mine[4] < 0 and is_void(bucket, part) then dim = nil end
    local over = (used[name] or mine[1]) - mine[1]
    if dim and over > 0 then
      dim[TAT] = max(dim[TAT], now) + over * mine[2]
      dim[SENT] = dim[SENT] + over
      dim[DONE] = dim[DONE] and dim[DONE] + over
    elseif dim and over < 0 then
      local ends = min(mine[3] - dim[RETURNED], dim[TAT])  -- headers may have moved everything
      local ahead = max(0, ends - max(now, bucket.last))
      if mine[4] < 0 and bucket.pause > now then ahead = -over * mine[2] end
      local back = min(-over * mine[2], ahead)
      dim[TAT] = dim[TAT] - back
      dim[RETURNED] = dim[RETURNED] + back
    end
    mine[1] = mine[1] + over
  end
end

-- A call ended: everything it sent has reached the provider, or never will.
local function ended(bucket, part)
  for name, mine in pairs(part.dims) do
    local dim = bucket.dims[name]
    if dim and mine[6] and mine[4] >= 0 then dim[DONE] = dim[DONE] + mine[1] end
  end
end

-- A call is no longer in flight. `took`: how long it was (us); nil if it never was or that is not known.
local function end_flight(bucket, now, took)
  bucket.flight = max(0, bucket.flight - 1)
  if took then bucket.took = bucket.took > 0 and bucket.took * 0.8 + took * 0.2 or took end
  bucket.done = now
end
