-- What a provider gives back a minute after it was used, as one does that counts the last minute: a burst comes back as
-- it left, and much quicker than by the rate. An answer tells of it only when it is there; by then more has come back.
-- So we keep when our own calls left. Whoever holds a whole minute, in any way of counting, has given back as much.

local MARKS = 21     -- so many units of LEFT had left at that time: { time, units, time, units, ... }, oldest first;
                     -- false: not kept. The first one is a minute old, or begins the list at time 0
local ALLOWED = 22   -- how many may have left and not come back, by the answer that showed least in this second,
                     -- by that of the one before, and when this one began; false: none has shown it

local PARTS = 60             -- a mark for each such part of the limit
local TRANSIT = SECOND / 4   -- a call may reach the provider so much later than it leaves
local WHOLE = 54             -- whose headers never reported of so many seconds' worth does not hold a minute

-- Whether all that left may be taken as used for one minute: headers tell what is left, and did so just now; they have
-- reported of a whole minute, and no 429 has shown lately that it holds less.
local function gives_back(dim, name, now)
  return opens_wide(dim, name, now) and is_sure(dim, now) and dim[MOST] >= WHOLE and now >= dim[HOLD]
end

-- Where the newest of the marks lies that is a minute and `transit` old.
local function newest(marks, transit, now)
  local due, at = now - MINUTE - transit, 1
  while marks[at + 2] and marks[at + 2] <= due do at = at + 2 end
  return at
end

-- Notes what has left until now, and forgets what is older than has to be known.
local function mark(dim, name, now)
  local marks = dim[MARKS]
  -- Once begun it goes on, whatever headers tell meanwhile: what is not marked would count as newer than it is.
  if not marks and not opens_wide(dim, name, now) then return end
  if not marks then
    dim[MARKS] = { 0, dim[SENT] }
  elseif dim[SENT] - marks[#marks] >= dim[LIMIT] / PARTS then
    local kept = {}
    for i = newest(marks, TRANSIT, now), #marks do kept[#kept + 1] = marks[i] end
    kept[#kept + 1] = now
    kept[#kept + 1] = dim[SENT]
    dim[MARKS] = kept
  end
end

-- The units of LEFT that may have come back, nil where that is not known.
local function returning(dim, now)
  local marks = dim[MARKS]
  return marks and marks[newest(marks, 0, now) + 1] or nil
end

-- Keeps what an answer shows: `units` may have left that have not come back, at the least.
local function allow(dim, units, now)
  local reported = dim[ALLOWED]
  if not reported or now - reported[3] > SHOWN_FOR then
    reported = { units, units, now }
  elseif now - reported[3] > SHOWN_FOR / 2 then
    reported = { units, reported[1], now }
  elseif units < reported[1] then
    reported[1] = units
  end
  dim[ALLOWED] = reported
end

-- Takes TAT back by what has come back since the answers reported, behind the last call that was given a time. During a
-- pause it stands for what is left when that ends.
local function take_back(bucket, dim, name, now)
  local reported, marks = dim[ALLOWED], dim[MARKS]
  if not reported or bucket.pause > now or not gives_back(dim, name, now) then return end
  local at, each = newest(marks, TRANSIT, now), interval(dim, name)
  if marks[at] == 0 then return end
  local room = min(reported[1], reported[2], PERIOD[name] / each) - (dim[SENT] - marks[at + 1])
  local level = now + capacity(dim, name) - room * each + dim[BOOKED]
  dim[TAT] = min(dim[TAT], max(level, bucket.last))
end

-- When more is going to come back, nil where that is not known.
local function next_return(dim, name, now)
  local marks = dim[MARKS]
  local next = marks and marks[newest(marks, TRANSIT, now) + 2]
  return next and gives_back(dim, name, now) and next + MINUTE + TRANSIT or nil
end

-- Whether more comes back in a second from `at` on than twice the rate: a call booked by the rate could go sooner.
local function returns_quickly(dim, name, at, now)
  local marks = dim[MARKS]
  if not marks or not opens_wide(dim, name, now) then return false end
  local soon = marks[newest(marks, TRANSIT - SECOND, at) + 1] - marks[newest(marks, TRANSIT, at) + 1]
  return soon > 2 * SECOND / interval(dim, name)
end
