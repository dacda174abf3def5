-- The learned pace of a bucket without a configured request limit. It has none until its first 429.
--
-- A provider that answers 429 has a limit that we don't know. If all waiters came when the pause ends, most would be
-- refused, so calls are sent one by one. A 429 makes the interval longer, up to the real mean interval, counting
-- pauses, because that is what the provider lets through; but at most twice as long, because some providers refuse at
-- random. Each answer makes it shorter, and more so the longer ago the last 429 was and the more answers came since.
--
-- bucket = {
--   pace   us between two calls, 0: no pace
--   slot   when the next call may be sent (us)
--   gap    mean interval between the latest calls (us)
--   left   when the last call was sent (us)
--   eased  when the pace last changed (us)
--   calm   answers since the last 429
--   told   the interval by the limit that headers reported (us), 0: none
-- }

local SLOWEST = 60 * SECOND    -- the longest interval
local QUICKEST = 2000          -- a shorter interval is no pace any more (us)
local FIRST = 10000            -- the shortest first interval (us)
local FIRST_MOST = SECOND / 2  -- and the longest: the time before may have been idle
local IDLE = SECOND / 4        -- a longer interval counts as this, or as twice the pace, apart from pauses
local RECENT = 0.1             -- the weight of the latest interval in the mean
local LESS = 1.2               -- a 429 makes the interval longer by at least this factor
local EASE = 0.02              -- how much faster the pace gets in the first second of answers, more in later ones
local CALM = 0.005             -- how much faster it may get with one answer, times the number of answers

local function paced(bucket, limits) return bucket.pace > 0 and not limits.rpm end

-- Books the next slot at or after `at` and returns it.
local function next_slot(bucket, at)
  local slot = max(bucket.slot, at)
  bucket.slot = slot + bucket.pace
  return slot
end

-- A call is sent. A long time without waiting calls says nothing about the provider, so it counts as IDLE.
local function note_sent(bucket, now)
  local left = bucket.left or 0
  if left > 0 then
    local pause = max(0, min(bucket.pause, now) - left)
    local since = pause + min(now - left - pause, max(IDLE, 2 * bucket.pace))
    bucket.gap = bucket.gap + RECENT * (since - bucket.gap)
  end
  bucket.left = now
end

-- An unforeseen 429. Booked slots are void: their calls ask again.
local function slow_down(bucket, now)
  local pace = bucket.pace
  if pace == 0 then
    local reported = bucket.told or 0
    bucket.pace = reported > 0 and reported or max(FIRST, min(2 * bucket.gap, FIRST_MOST))
  else
    bucket.pace = min(SLOWEST, max(LESS * pace, min(2 * pace, bucket.gap)))
  end
  bucket.slot = max(bucket.pause, now) + bucket.pace / 2
  bucket.eased, bucket.calm = now, 0
  void_booked(bucket, now)
end

-- A call was answered.
local function speed_up(bucket, now)
  if bucket.pace == 0 then return end
  bucket.calm = (bucket.calm or 0) + 1
  local calm = max(0, now - max(bucket.throttled, bucket.pause)) / SECOND
  local ease = EASE * (1 + calm) * min(1, max(0, now - bucket.eased) / SECOND)
  bucket.pace = bucket.pace / (1 + min(ease, CALM * bucket.calm))
  if bucket.pace < QUICKEST then bucket.pace, bucket.slot = 0, 0 end
  bucket.eased = now
end
