-- What a provider gives back a minute after it was used, if it counts the last minute: a burst comes back as it was
-- sent, much faster than by the rate. An answer reports it only when it is back, and by then more has come back. So we
-- remember when our own calls were sent. Any provider that holds a whole minute has given back that much, whatever its
-- way of counting.

local MARKS = 21    -- { time, SENT at that time, time, SENT, ... }, oldest first; false: not kept
                    -- (the first pair is a minute old, or begins the list at time 0)
local ALLOWED = 22  -- how many units may be sent and not given back, by the answer that showed least in this second and
                    -- in the one before; and when this second began; false: no answer has shown it

local PARTS = 60            -- a mark for each such part of the limit
local TRANSIT = SECOND / 4  -- how much later than it is sent a call may reach the provider
local WHOLE = 54            -- a provider whose headers never reported this many seconds' worth does not hold a minute

-- Whether everything that was sent counts as used for one minute: headers have just reported what is left, they have
-- reported a whole minute before, and no 429 has shown lately that the provider holds less.
local function gives_back(dim, name, now)
  return opens_wide(dim, name, now) and is_sure(dim, now) and dim[MOST] >= WHOLE and now >= dim[HOLD]
end

-- Returns the index of the newest mark that is a minute and `transit` old.
local function newest(marks, transit, now)
  local due, at = now - MINUTE - transit, 1
  while marks[at + 2] and marks[at + 2] <= due do at = at + 2 end
  return at
end

-- Marks what has been sent until now, and drops the marks that are not needed any more.
local function mark(dim, name, now)
  local marks = dim[MARKS]
  -- Once begun, marking goes on whatever headers report: unmarked units would count as newer than they are.
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

-- Returns the units of SENT that may have been given back, nil if that is not known.
local function returning(dim, now)
  local marks = dim[MARKS]
  return marks and marks[newest(marks, 0, now) + 1] or nil
end

-- Remembers what an answer shows: at least `units` may be sent and not given back.
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

-- Moves TAT back by what was given back since the answers reported, but not before the last call that was given a time.
-- Does nothing during a pause, when TAT stands for what is left at its end.
local function take_back(bucket, dim, name, now)
  local reported, marks = dim[ALLOWED], dim[MARKS]
  if not reported or bucket.pause > now or not gives_back(dim, name, now) then return end
  local at, each = newest(marks, TRANSIT, now), interval(dim, name)
  if marks[at] == 0 then return end
  local room = min(reported[1], reported[2], PERIOD[name] / each) - (dim[SENT] - marks[at + 1])
  local level = now + capacity(dim, name) - room * each + dim[BOOKED]
  dim[TAT] = min(dim[TAT], max(level, bucket.last))
end

-- Returns when more is given back, nil if that is not known.
local function next_return(dim, name, now)
  local marks = dim[MARKS]
  local next = marks and marks[newest(marks, TRANSIT, now) + 2]
  return next and gives_back(dim, name, now) and next + MINUTE + TRANSIT or nil
end

-- Whether more than twice the rate comes back in the second after `at`: a call booked by the rate could be sent sooner.
local function returns_quickly(dim, name, at, now)
  local marks = dim[MARKS]
  if not marks or not opens_wide(dim, name, now) then return false end
  local soon = marks[newest(marks, TRANSIT - SECOND, at) + 1] - marks[newest(marks, TRANSIT, at) + 1]
  return soon > 2 * SECOND / interval(dim, name)
end
