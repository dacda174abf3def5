-- The pace of a bucket whose requests a minute nobody has configured: none until its first 429, then learned.
--
-- A provider that answers 429 has a limit that we were not told. Whoever waits for the pause to end would come at once
-- and be refused together; so calls leave one by one, the interval doubles while 429s come in a row, and shrinks again
-- with each answer. bucket = { pace = us between two calls (0: none), slot = when the next one may go (us),
-- eased = when the pace last changed (us) }

local SLOWEST = 60 * SECOND
local QUICKEST = 2000           -- a shorter interval than this is no pace any more (us)
local FIRST = 10000             -- the first interval, at the least (us)
local ROW = 10 * SECOND         -- 429s within this are in a row
local EASE = 0.08               -- how much quicker the pace may get in a second of answers

local function paced(bucket, limits) return bucket.pace > 0 and not limits.rpm end

-- Books the next slot not before `at`; returns it.
local function next_slot(bucket, at)
  local slot = max(bucket.slot, at)
  bucket.slot = slot + bucket.pace
  return slot
end

-- A 429 that nobody foresaw. What is booked is void: it is booked anew when it wants to leave.
local function slow_down(bucket, now)
  if bucket.pace == 0 then
    local told = bucket.told or 0
    bucket.pace = told > 0 and told or max(FIRST, 2 * bucket.gap)
  else
    bucket.pace = min(SLOWEST, bucket.pace * (now - bucket.eased < ROW and 2 or 1.25))
  end
  bucket.slot = max(bucket.pause, now) + bucket.pace / 2
  bucket.eased = now
end

-- An answer.
local function speed_up(bucket, now)
  if bucket.pace == 0 then return end
  bucket.pace = bucket.pace / (1 + EASE * min(1, max(0, now - bucket.eased) / SECOND))
  if bucket.pace < QUICKEST then bucket.pace, bucket.slot = 0, 0 end
  bucket.eased = now
end
