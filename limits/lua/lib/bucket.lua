-- A bucket's state: how far its rate has run, how much may be sent at once, and what headers have shown.
--
-- bucket = {
--   field     unit    written by   meaning
--   pause     us      provider     nothing is sent before this time
--   throttled us      provider     when the last 429 arrived
--   strikes           provider     429s in a row that named no wait
--   minutes   us      provider     when a 429 last named a wait that only a minute's count explains; nil: never
--   refills           provider     whether more requests than the limit were answered within a minute, which means that
--                                  the provider refills a minute's quota as time goes by
--   voids             provider     how often a burst or the pace has proved too fast; nil: never
--   shift     us      booking      by how much all booked calls were postponed, ever
--   last      us      booking      latest time given to a call
--   hint      us      booking      when the next denied call should ask again
--   lane      us      booking      when the urgent lane is free again
--   urgent    us      admit        when urgent work last asked
--   flight            booking      open reservations
--   done      us      giving_back  when the last call ended
--   took      us      giving_back  mean duration of a call; 0 while none has ended
--   pace, slot, gap, left, eased, calm, told    see pace.lua
--   stated    see stated.lua
--   dims      { dimension = the fields below }
-- }

local TAT = 1        -- theoretical arrival time: how far the admitted calls have run (us)
local RETURNED = 2   -- us of the rate that settlements have given back, ever
local SENT = 3       -- units of calls that were sent, ever
local BURST = 4      -- learned burst (s)
local GROWN = 5      -- when growth was last computed (us)
local PRESSED = 6    -- when a call was last denied because of this dimension (us)
local HOLD = 7       -- the burst does not grow before this time (us)
local HOLDS = 8      -- how often the burst has fallen back
local SEEN = 9       -- when the request with the newest headers was sent (us)
local REPORTED = 10  -- the limit that headers reported, 0 if none
local LIMIT = 11     -- the configured limit
local HEADROOM = 12  -- the part of the limit that is used now
local FIXED = 13     -- the configured burst (s), 0 for "auto"
local BOOKED = 14    -- the part of TAT that admitted, unsent calls take up (us)
-- 15: not used
local MOST = 16      -- the most that headers ever reported as left, in seconds of the rate; -1: they never did
local EMPTY = 17     -- the value of SENT at which nothing is left, by the newest headers; -1: not reported
local SHOWN = 18     -- of the answer that showed least in this second: as EMPTY, and when its request was sent;
                     -- the same two for the second before; and when this second began; false: no answer yet
local DONE = 19      -- units of SENT whose calls have ended
local SURE = 20      -- as EMPTY, even if no call that was open when that request was sent had reached the provider
                     -- by then; and when that answer came; false: no answer yet
-- 21 and 22: see window.lua; 23: see stated.lua

local MINUTE = 60 * SECOND
local PERIOD = { rpm = MINUTE, tpm = MINUTE, itpm = MINUTE, otpm = MINUTE, rpd = DAY, tpd = DAY }
local BUCKET_LIFE = 8 * DAY         -- how long a bucket without calls is stored
local URGENT_MEMORY = 60 * SECOND   -- how long urgent work keeps its share after it last asked
local FIRST_HOLD = 60 * SECOND      -- how long a burst that fell back does not grow: 1, 2, 4 ... times this
local LONGEST_HOLD = 3600 * SECOND  -- and the longest
local WINDOW = SECOND               -- kept free of what headers report as left, if the provider counts by the second
local HEADERS_FRESH = 300 * SECOND  -- older headers say nothing about how to grow
local SHOWN_FOR = 2 * SECOND        -- how long we believe what an answer has shown
local FEW = 3                       -- a provider that never reported more seconds as left counts by the second
local CAREFUL = 0.97                -- the part of a limit that is used while we can't be sure of what is left
local CAREFUL_FOR = 10 * SECOND     -- and this long after the pause of a 429

local function new_bucket()
  return { pause = 0, throttled = 0, strikes = 0, shift = 0, last = 0, hint = 0, flight = 0, gap = SECOND / 4, done = 0,
    took = 0, urgent = 0, lane = 0, pace = 0, slot = 0, eased = 0, told = 0, dims = {} }
end

local function read_bucket(id) return value_or(bucket_key(id), new_bucket) end

local function save_bucket(id, bucket) save(bucket_key(id), bucket, BUCKET_LIFE) end

-- Returns the part of a limit that is used if none is configured. All of it, if headers report what is left of a
-- second, or of a minute that refills as time goes by. Not all of a minute that comes back at once: a wrong guess of
-- what has come back would end in 429s.
local function part_of(bucket, dim, name, now)
  local most = dim[MOST] or -1
  if PERIOD[name] ~= MINUTE then return CAREFUL end
  local reported = most >= 0 and now - dim[SEEN] < HEADERS_FRESH
  local known = reported and (most <= FEW or bucket.refills)
  return known and now - max(bucket.throttled, bucket.pause) >= CAREFUL_FOR and 1 or CAREFUL
end

-- Returns the state of one dimension under the quota as it is configured now.
local function dimension(bucket, quota, name, limit, now)
  local dim = bucket.dims[name]
  if not dim then
    dim = { 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, limit, quota.headroom, quota.burst, 0, 0, -1, -1, false, 0, false,
      false, false, false }
    bucket.dims[name] = dim
  end
  dim[LIMIT], dim[FIXED] = limit, quota.burst
  dim[HEADROOM] = quota.headroom > 0 and quota.headroom or part_of(bucket, dim, name, now)
  dim[DONE] = dim[DONE] or dim[SENT]
  return dim
end

-- Returns how long one unit takes to refill (us), under the lower of the configured and the reported limit.
local function interval(dim, name)
  local limit = dim[LIMIT]
  if dim[REPORTED] > 0 and dim[REPORTED] < limit then limit = dim[REPORTED] end
  return PERIOD[name] / (limit * dim[HEADROOM])
end

-- Returns how long the provider takes to give one unit back (us), under the limit that headers reported.
local function refill(dim, name)
  return PERIOD[name] / ((dim[REPORTED] > 0 and dim[REPORTED] or dim[LIMIT]) * dim[HEADROOM])
end

-- Returns how much may be sent at once, as time of the rate (us). A day's quota may be used at any pace.
local function capacity(dim, name)
  if PERIOD[name] == DAY then return DAY end
  return (dim[FIXED] > 0 and dim[FIXED] or dim[BURST]) * SECOND
end

-- The burst or the pace that gave booked calls their times was too fast. They hold nothing any more, and ask again.
local function void_booked(bucket, now)
  for _, dim in pairs(bucket.dims) do dim[TAT], dim[BOOKED] = dim[TAT] - dim[BOOKED], 0 end
  bucket.last, bucket.voids = max(now, bucket.pause), (bucket.voids or 0) + 1
end

-- A part without a count was stored by an older version.
local function is_void(bucket, part) return part.voids ~= nil and part.voids ~= (bucket.voids or 0) end

-- Whether batch work must leave urgent work its share.
local function reserved(bucket, now) return bucket.urgent > 0 and now - bucket.urgent < URGENT_MEMORY end

-- Returns how far a burst may grow (s), how fast (s a second), and whether headers report room. Returns nothing if the
-- burst is fixed or has fallen back lately.
local function growth(dim, name, now)
  if dim[FIXED] > 0 or PERIOD[name] == DAY or now < dim[HOLD] then return end
  local left = dim[MOST] or -1
  local reported = left >= 0 and now - dim[SEEN] < HEADERS_FRESH and dim[REPORTED] <= dim[LIMIT]
  local most = reported and min(60, max(1, left)) or 60
  if dim[BURST] >= most then return end
  return most, reported and max(4, 2 * dim[BURST]) or max(0.3, 0.087 * dim[BURST]), reported
end

-- Whether many calls may have room when a pause ends: headers report what is left, and have reported room for many.
local function opens_wide(dim, name, now)
  if PERIOD[name] ~= MINUTE or dim[FIXED] > 0 then return false end
  return (dim[MOST] or -1) > FEW and now - dim[SEEN] < HEADERS_FRESH
end

-- Returns how far TAT would have run if nothing were left once SENT is `empty` (us).
local function level_at(dim, name, empty, now)
  local unit = refill(dim, name)
  local used = PERIOD[name] / dim[HEADROOM] - (empty - dim[SENT] - dim[BOOKED] / interval(dim, name)) * unit
  return now + max(0, used) - (PERIOD[name] - capacity(dim, name)) / dim[HEADROOM]
end

local function is_sure(dim, now) return dim[SURE] and now - dim[SURE][2] < SHOWN_FOR end

-- Returns the same for what the newest answer surely leaves. Without a recent answer nothing is sure to be left.
local function surely_shown(dim, name, now)
  return is_sure(dim, now) and level_at(dim, name, dim[SURE][1], now) or now + PERIOD[name]
end

-- Returns the same for what the latest answers have shown. Call it only if there are some.
local function shown_level(dim, name, now)
  local shown, unit = dim[SHOWN], refill(dim, name)
  local empty = min(shown[1] + (now - shown[2]) / unit, shown[3] + (now - shown[4]) / unit)
  return level_at(dim, name, is_sure(dim, now) and max(empty, dim[SURE][1]) or empty, now)
end
