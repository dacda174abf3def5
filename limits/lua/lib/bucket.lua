-- A bucket's levels: how far its rate has run, how much may go out at once, and what headers have shown of it.
--
-- bucket = {
--   pause      no call goes out before (us)            throttled  when the last 429 was learnt of (us)
--   strikes    429s in a row that reported no wait         shift      by how much all booked calls were postponed, ever (us)
--   last       latest time given to a call (us)        hint       when the next denied call is to come back (us)
--   flight     reservations open                       done       when the last call ended (us)
--   took       mean time of a call (us), 0 while none has ended
--   urgent     when urgent work last asked (us)        lane       when the urgent lane is free again (us)
--   pace, slot, gap, left, eased, calm, reported   see pace.lua
--   quantum    see quantum.lua
--   falls      how often a burst has fallen back, nil: never
--   began      when its first call left (us), nil: none has
--   minutes    when a 429 last reported a wait that only a minute's count explains (us), nil: never
--   stated     see stated.lua
--   refills    whether more requests than the limit were answered within a minute: what the provider holds for a minute
--              comes back as time goes by
--   dims       a table of the fields below for each dimension
-- }

local TAT = 1        -- theoretical arrival time: how far the admitted calls have run (us)
local RETURNED = 2   -- us of the rate given back by settlements, ever
local SENT = 3       -- units of calls that have left, ever
local BURST = 4      -- learned burst (s)
local GROWN = 5      -- when growth was last looked at (us)
local PRESSED = 6    -- when a call was last denied for this dimension (us)
local HOLD = 7       -- the burst does not grow before (us)
local HOLDS = 8      -- how often it has fallen back
local SEEN = 9       -- when the request with the newest header left (us)
local REPORTED = 10      -- the limit that headers reported, 0 if none
local LIMIT = 11     -- the limit configured
local HEADROOM = 12  -- the part of it that is used now
local FIXED = 13     -- the burst configured (s), 0 for "auto"
local BOOKED = 14    -- what admitted calls that have not left yet take up of TAT (us)
local OUT = 15       -- how far the calls that have left have run, as TAT counts those admitted (us)
local MOST = 16      -- the most that headers ever reported to be left, as seconds of the rate; -1: they never reported
local EMPTY = 17     -- the units of LEFT at which nothing is left, by the headers of the newest answer; -1: not reported
local SHOWN = 18     -- as that and when its request left, of the answer that showed least in this second, and in the one
                     -- before, and when this one began; false: none has
local DONE = 19      -- units of LEFT whose calls have ended
local SURE = 20      -- the units of LEFT that the newest answer leaves room for even if no call that was open when its
                     -- request left had reached the provider, and when it came; false: none has
-- 21 and 22: see window.lua; 23: see stated.lua

local MINUTE = 60 * SECOND
local PERIOD = { rpm = MINUTE, tpm = MINUTE, itpm = MINUTE, otpm = MINUTE, rpd = DAY, tpd = DAY }
local BUCKET_LIFE = 8 * DAY
local URGENT_MEMORY = 60 * SECOND  -- how long urgent work keeps its share after it last asked
local FIRST_HOLD = 60 * SECOND     -- a burst that fell back stays for this, then twice, four times ... as long
local LONGEST_HOLD = 3600 * SECOND
local WINDOW = SECOND              -- so much of what headers reported is left for a provider that counts by the second
local HEADERS_FRESH = 300 * SECOND -- headers older than this say nothing about how to grow
local SHOWN_FOR = 2 * SECOND       -- so long what an answer has shown is believed
local FEW = 3                      -- whose headers never reported of more seconds of the rate counts by the second
local CAREFUL = 0.97               -- the part of a limit that is used where we cannot be sure of what is left
local CAREFUL_FOR = 10 * SECOND    -- and for so long after a 429's pause

local function new_bucket()
  return { pause = 0, throttled = 0, strikes = 0, shift = 0, last = 0, hint = 0, flight = 0, gap = SECOND / 4, done = 0,
    took = 0, urgent = 0, lane = 0, pace = 0, slot = 0, eased = 0, told = 0, dims = {} }
end

local function read_bucket(id) return value_or(bucket_key(id), new_bucket) end

local function save_bucket(id, bucket) save(bucket_key(id), bucket, BUCKET_LIFE) end

-- Whether nothing is known of a bucket yet, in the second that began with its first call.
local function unknown(bucket, now)
  return bucket.done == 0 and bucket.throttled == 0 and now < (bucket.began or now) + SECOND
end

-- The part of a limit that is used where that is not configured: all of it where headers tell what is left, of a second
-- or of a minute that refills as time goes by. Of one that comes back at once, as it was used, what is taken for refilled
-- and is not would be found out by 429s. And all of the first second's, while nothing more leaves in it.
local function part_of(bucket, dim, name, now)
  local most = dim[MOST] or -1
  if PERIOD[name] ~= MINUTE then return CAREFUL end
  local reported = most >= 0 and now - dim[SEEN] < HEADERS_FRESH
  local known = reported and (most <= FEW or bucket.refills) or most < 0 and dim[FIXED] == 0 and unknown(bucket, now)
  local sure = bucket.quantum and bucket.quantum.sure  -- until a 429 shows that something else holds
  return known and (sure or now - max(bucket.throttled, bucket.pause) >= CAREFUL_FOR) and 1 or CAREFUL
end

-- The state of one dimension under the quota as configured now.
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

-- Microseconds that one unit takes to refill, under the lower of the configured and the reported limit.
local function interval(dim, name)
  local limit = dim[LIMIT]
  if dim[REPORTED] > 0 and dim[REPORTED] < limit then limit = dim[REPORTED] end
  return PERIOD[name] / (limit * dim[HEADROOM])
end

-- Microseconds in which the provider gives one unit back, by the limit that headers reported.
local function refill(dim, name) return PERIOD[name] / ((dim[REPORTED] > 0 and dim[REPORTED] or dim[LIMIT]) * dim[HEADROOM]) end

-- How much may go out at once, as time of the rate (us). A day's quota may be used at any pace.
local function capacity(dim, name)
  if PERIOD[name] == DAY then return DAY end
  return (dim[FIXED] > 0 and dim[FIXED] or dim[BURST]) * SECOND
end

-- How much of that may leave at once of calls that are late: so little that it fits into what a provider that counts
-- by the second has left of one.
local function catching_up(dim, name) return max(capacity(dim, name) - 3 * SECOND / 4, SECOND / 4) end

-- A call leaves, or is given the time at which it will: `width` us of the rate.
local function runs_out(dim, name, width, now)
  dim[OUT] = max(dim[OUT], now - catching_up(dim, name)) + width
end

-- Whether batch work has to leave urgent work its share.
local function reserved(bucket, now) return bucket.urgent > 0 and now - bucket.urgent < URGENT_MEMORY end

-- How far a burst may grow (s), how fast (s a second), and whether headers say that there is room; nothing where it is
-- fixed or has fallen back lately.
local function growth(dim, name, now)
  if dim[FIXED] > 0 or PERIOD[name] == DAY or now < dim[HOLD] then return end
  local left = dim[MOST] or -1
  local reported = left >= 0 and now - dim[SEEN] < HEADERS_FRESH and dim[REPORTED] <= dim[LIMIT]
  local most = reported and min(60, max(1, left)) or 60
  if dim[BURST] >= most then return end
  return most, reported and max(4, 2 * dim[BURST]) or max(0.3, 0.087 * dim[BURST]), reported
end

-- Whether a pause may end with room for many: headers tell what is left, and have reported of many at once.
local function opens_wide(dim, name, now)
  if PERIOD[name] ~= MINUTE or dim[FIXED] > 0 then return false end
  return (dim[MOST] or -1) > FEW and now - dim[SEEN] < HEADERS_FRESH
end

-- How far TAT would have run if nothing were left after so many units of LEFT (us).
local function level_at(dim, name, empty, now)
  local unit = refill(dim, name)
  local used = PERIOD[name] / dim[HEADROOM] - (empty - dim[SENT] - dim[BOOKED] / interval(dim, name)) * unit
  return now + max(0, used) - (PERIOD[name] - capacity(dim, name)) / dim[HEADROOM]
end

local function is_sure(dim, now) return dim[SURE] and now - dim[SURE][2] < SHOWN_FOR end

-- That by what the newest answer leaves in any case; nothing is left in any case where none has come lately.
local function surely_shown(dim, name, now)
  return is_sure(dim, now) and level_at(dim, name, dim[SURE][1], now) or now + PERIOD[name]
end

-- That by what the latest answers have shown; some have.
local function shown_level(dim, name, now)
  local shown, unit = dim[SHOWN], refill(dim, name)
  local empty = min(shown[1] + (now - shown[2]) / unit, shown[3] + (now - shown[4]) / unit)
  return level_at(dim, name, is_sure(dim, now) and max(empty, dim[SURE][1]) or empty, now)
end
