-- Providers that count by the second: a sixtieth of the limit is there as each second begins, and what is left of it when
-- it ends is lost. Where answers agree on when everything is there again, whatever they leave, that is known. Then calls
-- leave in a second's first quarter, as many as it has room for: none is one too many, and none comes so late that it
-- takes the place of another in the next one.
--
-- TAT, less the burst of a second, then tells how far the seconds are given away, and not when a call leaves.
--
-- bucket.quantum = {
--   begins  when one of the provider's seconds began, as calls leave: the way there is part of it (us)
--   agreed  how many agree
--   least, most  by dimension, what the answers that agree left (us of the rate)
--   seen    when the newest request that reported it left (us)
--   later   by how much the latest of the ends on which answers agree lies behind the first (us)
--   sure    since when it is known (us), nil: it is not yet
--   warm    whether a call that left since then has agreed
--   odd     answers in a row that did not agree
--   from    when the first second begins in which no call has left otherwise: nobody knows what is left of earlier ones
--   held    a 429 showed that something else holds: not before (us)
--   failed  how often
-- }

local seconds = {}  -- a script has room for 200 local names
do
  local AGREE = SECOND / 10          -- ends of a second that lie no further apart are the same
  local ENOUGH = 4                   -- so many answers have to agree
  local ODD = 5                      -- so many answers in a row that do not agree show that it has changed
  local MARGIN = SECOND / 50         -- calls leave so long after a second begins, and no clock makes one of them early
  local COLD = SECOND / 5            -- and so long while all that is known is of calls that had to connect first: they
                                     -- tell an end that is earlier than it is by that
  local DENSE = 0.25                 -- the part of a second in which its calls leave
  local LAST = 4 * SECOND / 5        -- none leaves later in it than this, where it could have left sooner

  -- Whether what headers tell of a dimension may be of a second: they never reported of more.
  local function of_a_second(dim, name, now)
    local most = dim[MOST] or -1
    return PERIOD[name] == MINUTE and most >= 0 and most <= 1 and now - dim[SEEN] < HEADERS_FRESH
      and capacity(dim, name) == SECOND
  end

  -- Whether calls leave by the provider's seconds. Urgent work goes between those that are booked: there, evenly; and so
  -- where a part of a limit is left: what a second has room for is whole calls, and few of them would be one too few.
  function seconds.hold(bucket, dim, name, now)
    local quantum = bucket.quantum
    return quantum and quantum.sure and now - quantum.seen < HEADERS_FRESH and of_a_second(dim, name, now)
      and dim[HEADROOM] == 1 and not reserved(bucket, now)
  end

  local function second_of(bucket, at) return at - (at - bucket.quantum.begins) % SECOND end

  -- When a call leaves that takes the seconds from there.
  function seconds.leaving(bucket, share)
    local second = second_of(bucket, share)
    return ceil(second + (bucket.quantum.warm and MARGIN or COLD) + DENSE * (share - second))
  end

  -- From where on a call of that width takes them, if it leaves at `from` at the earliest: the first one that has room.
  function seconds.share(bucket, dim, width, from)
    local at = second_of(bucket, from)
    if from - at > LAST then at = at + SECOND end
    at = max(dim[TAT] - SECOND, bucket.quantum.from, at)
    local second = second_of(bucket, at)
    return at > second and at + width > second + SECOND + 1 and second + SECOND or at
  end

  -- Whether one time lies in an earlier second than another.
  function seconds.before(bucket, one, other) return second_of(bucket, one) < second_of(bucket, other) end

  -- A second begins later than was believed, or earlier; what is given away of it stays the same.
  local function move(bucket, by)
    bucket.quantum.begins, bucket.quantum.from = bucket.quantum.begins + by, bucket.quantum.from + by
    for name, dim in pairs(bucket.dims) do
      if PERIOD[name] == MINUTE then dim[TAT] = dim[TAT] + by end
    end
  end

  -- Calls leave otherwise, or have until now.
  function seconds.interrupt(bucket)
    if not bucket.quantum or not bucket.quantum.sure then return end
    bucket.quantum.from = second_of(bucket, max(bucket.left or 0, bucket.last) + MARGIN) + SECOND
  end

  local function begin(bucket, at, name, left, sent)
    local before = bucket.quantum or {}
    bucket.quantum = { begins = at, least = { [name] = left }, most = { [name] = left }, later = 0, seen = sent, odd = 0,
      agreed = 1, held = before.held, failed = before.failed }
  end

  -- It is known: those who left until now have used up their second, unless a pause ends in one that nobody has used.
  local function known(bucket, now)
    local quantum = bucket.quantum
    quantum.begins, quantum.sure = quantum.begins + quantum.later, now
    local opens = second_of(bucket, bucket.pause)
    seconds.interrupt(bucket)
    local booked = 0
    for _, dim in pairs(bucket.dims) do booked = booked + dim[BOOKED] end
    if opens <= now or booked >= 1 then return end
    for name, dim in pairs(bucket.dims) do
      if of_a_second(dim, name, now) then dim[TAT] = opens + SECOND end
    end
    quantum.from = opens
  end

  -- Keeps when an answer says that everything is there again, `reset` after its request (us); `left`: what it left (us of
  -- the rate). In a bucket that refills continuously that moves with what is left, and of a second it does not. Whole
  -- seconds are rounded, and would make it move with the calls.
  function seconds.learn(bucket, dim, name, left, reset, sent, now)
    local quantum = bucket.quantum
    if not of_a_second(dim, name, now) or reset % SECOND == 0 or quantum and now < (quantum.held or 0) then return end
    local off = quantum and quantum.begins and (sent + reset - quantum.begins + SECOND / 2) % SECOND - SECOND / 2
    if not off then return begin(bucket, sent + reset, name, left, sent) end
    if abs(off) > (quantum.sure and COLD or AGREE) or reset > SECOND + AGREE then
      quantum.odd = quantum.odd + 1
      if not quantum.sure or quantum.odd >= ODD then begin(bucket, sent + reset, name, left, sent) end
      return
    end
    quantum.odd, quantum.agreed, quantum.seen = 0, quantum.agreed + 1, max(quantum.seen, sent)
    local least, most = min(quantum.least[name] or left, left), max(quantum.most[name] or left, left)
    quantum.least[name], quantum.most[name] = least, most
    if quantum.sure then
      -- The latest is nearest to the truth: its request was the quickest. Clocks drift.
      move(bucket, max(off, 0.02 * off))
      quantum.warm = quantum.warm or sent > quantum.sure
    else
      quantum.later = max(quantum.later, off)
      if most - least >= SECOND / 2 and quantum.agreed >= ENOUGH then known(bucket, now) end
    end
  end

  -- Whether a second's worth at the most may leave in the first second: nothing is known yet, or it is just being learned.
  local function learning(bucket, now)
    if now >= (bucket.began or now) + SECOND or bucket.throttled > 0 then return false end
    return bucket.done == 0 or bucket.quantum and not bucket.quantum.sure
  end

  -- When a call fits that would leave beyond that, nil if now.
  function seconds.second_one(bucket, dim, name, width, now)
    if PERIOD[name] ~= MINUTE or dim[FIXED] > 0 or not bucket.began or not learning(bucket, now) then return end
    return dim[TAT] + width > bucket.began + SECOND + 1 and bucket.began + SECOND or nil
  end

  -- A 429 of a call that left by the seconds: something else holds.
  function seconds.disprove(bucket, sent, now)
    local quantum = bucket.quantum
    if not quantum or not quantum.sure or sent <= quantum.sure then return end
    local failed = quantum.failed or 0
    bucket.quantum = { held = now + min(LONGEST_HOLD, FIRST_HOLD * 2 ^ min(failed, 10)), failed = failed + 1 }
  end

  -- All that is booked leaves later, or has given its place up in a pause: what is given away from now on begins behind
  -- it, or where nothing is booked, with the second in which the pause ends, if that has not begun.
  function seconds.realign(bucket, dim, now)
    local opens = max(now, bucket.pause)
    local begins = second_of(bucket, opens)
    if dim[BOOKED] >= 1 or begins <= now then begins = second_of(bucket, max(opens, bucket.last)) + SECOND end
    dim[TAT] = begins + SECOND
  end
end
