-- The pace of a bucket whose requests a minute nobody has configured: none until its first 429, then learned.
--
-- A provider that answers 429 has a limit that we were not reported. Whoever waits for the pause to end would come at once
-- and be refused together; so calls leave one by one. A 429 makes the interval longer: as long as calls have left at
-- in fact, pauses included, which is what the provider lets through; at most twice as long, since some refuse at random.
-- It shrinks again with each answer, the quicker the longer and the more answers there has been no 429.
-- bucket = { pace = us between two calls (0: none), slot = when the next one may go (us), gap = mean interval between
-- the latest calls (us), left = when the last one left (us), eased = when the pace last changed (us), calm = answers
-- since the last 429, reported = the same by the limit that headers reported (us, 0: none) }

local SLOWEST = 60 * SECOND
local QUICKEST = 2000           -- a shorter interval than this is no pace any more (us)
local FIRST = 10000             -- the first interval, at the least (us)
local FIRST_MOST = SECOND / 2   -- and at the most: what was before may have been idle
local IDLE = SECOND / 4         -- a longer time between two calls counts as this, or as twice the pace, besides pauses
local RECENT = 0.1              -- the weight of the latest interval in their mean
local LESS = 1.2                -- a 429 makes the interval longer by this factor, at the least
local EASE = 0.02               -- how much quicker the pace gets in a second of answers, and more in each further one
local CALM = 0.005              -- how much quicker it gets with an answer at the most, times their number

local function paced(bucket, limits) return bucket.pace > 0 and not limits.rpm end

-- Books the next slot not before `at`; returns it.
local function next_slot(bucket, at)
  local slot = max(bucket.slot, at)
  bucket.slot = slot + bucket.pace
  return slot
end

-- A call leaves. That nobody wanted to leave for longer than the pace asks is not the provider's doing.
local function note_sent(bucket, now)
  local left = bucket.left or 0
  if left > 0 then
    local pause = max(0, min(bucket.pause, now) - left)
    local since = pause + min(now - left - pause, max(IDLE, 2 * bucket.pace))
    bucket.gap = bucket.gap + RECENT * (since - bucket.gap)
  end
  bucket.left = now
  bucket.began = bucket.began or now
end

-- A 429 that nobody foresaw. What is booked is void: it is booked anew when it wants to leave.
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
end

-- An answer.
local function speed_up(bucket, now)
  if bucket.pace == 0 then return end
  bucket.calm = (bucket.calm or 0) + 1
  local calm = max(0, now - max(bucket.throttled, bucket.pause)) / SECOND
  local ease = EASE * (1 + calm) * min(1, max(0, now - bucket.eased) / SECOND)
  bucket.pace = bucket.pace / (1 + min(ease, CALM * bucket.calm))
  if bucket.pace < QUICKEST then bucket.pace, bucket.slot = 0, 0 end
  bucket.eased = now
end
