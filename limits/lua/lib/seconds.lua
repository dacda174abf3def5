-- Providers that count by the second: each second begins with a sixtieth of the limit, and what is left of it at the
-- end is lost. We know the start of their seconds if answers agree on when everything is available again, whatever they
-- leave. Calls then fill the first quarter of a second. So none is one too many, and
-- none arrives so late that it takes a place in the next second.
--
-- TAT less a second's burst then says how far the seconds are used up, and not when a call is sent.
--
-- bucket.quantum = {
--   begins       when one of the provider's seconds began, for the sender: includes the way to the provider (us)
--   agreed       how many answers agree
--   least, most  by dimension, what the answers that agree left (us of the rate)
--   seen         when the newest request that agreed was sent (us)
--   later        by how much the latest agreeing end is behind the first (us)
--   sure         since when it is known (us), nil: not yet
--   warm         whether a call that was sent since then has agreed
--   odd          answers in a row that did not agree
--   from         start of the first second in which all calls are sent by the seconds; what is left of earlier ones is
--                unknown
--   held         a 429 disproved it: don't learn before (us)
--   failed       how often
-- }

local seconds = {}  -- a table, because a script has room for 200 local names
do
  local AGREE = SECOND / 10    -- two ends closer than this are the same end
  local ENOUGH = 4             -- answers that have to agree
  local ODD = 5                -- answers in a row that do not agree, after which the end has changed
  local MARGIN = SECOND / 50   -- how long after a second begins its calls are sent: no clock makes one early
  local COLD = SECOND / 5      -- the same while all answers came from calls that had to connect first: they
                               -- report the end earlier by the time to connect
  local DENSE = 0.25           -- the part of a second in which its calls are sent
  local LAST = 4 * SECOND / 5  -- no call is sent later in a second, if it could have been sent sooner

  -- Whether headers may report on a single second of a dimension: they never reported more than that.
  local function of_a_second(dim, name, now)
    local most = dim[MOST] or -1
    return PERIOD[name] == MINUTE and most >= 0 and most <= 1 and now - dim[SEEN] < HEADERS_FRESH
      and capacity(dim, name) == SECOND
  end

  -- Whether calls are sent by the provider's seconds. If urgent work goes between booked calls, they are sent evenly
  -- instead. So they are if only a part of a limit is used: few whole calls fit into a second, and rounding would cost
  -- one.
  function seconds.hold(bucket, dim, name, now)
    local quantum = bucket.quantum
    return quantum and quantum.sure and now - quantum.seen < HEADERS_FRESH and of_a_second(dim, name, now)
      and dim[HEADROOM] == 1 and not reserved(bucket, now)
  end

  local function second_of(bucket, at) return at - (at - bucket.quantum.begins) % SECOND end

  -- Returns when a call is sent whose share of a second begins at `share`.
  function seconds.leaving(bucket, share)
    local second = second_of(bucket, share)
    return ceil(second + (bucket.quantum.warm and MARGIN or COLD) + DENSE * (share - second))
  end

  -- Returns the begin of a share of `width` begins for a call that is sent at `from` or later: in the first second with
  -- room.
  function seconds.share(bucket, dim, width, from)
    local at = second_of(bucket, from)
    if from - at > LAST then at = at + SECOND end
    at = max(dim[TAT] - SECOND, bucket.quantum.from, at)
    local second = second_of(bucket, at)
    return at > second and at + width > second + SECOND + 1 and second + SECOND or at
  end

  -- Whether `one` lies in an earlier second than `other`.
  function seconds.before(bucket, one, other) return second_of(bucket, one) < second_of(bucket, other) end

  -- A second begins later, or earlier, than believed. What is used of it stays the same.
  local function move(bucket, by)
    bucket.quantum.begins, bucket.quantum.from = bucket.quantum.begins + by, bucket.quantum.from + by
    for name, dim in pairs(bucket.dims) do
      if PERIOD[name] == MINUTE then dim[TAT] = dim[TAT] + by end
    end
  end

  -- Calls are sent in another way, or have been until now.
  function seconds.interrupt(bucket)
    if not bucket.quantum or not bucket.quantum.sure then return end
    bucket.quantum.from = second_of(bucket, max(bucket.left or 0, bucket.last) + MARGIN) + SECOND
  end

  local function begin(bucket, at, name, left, sent)
    local before = bucket.quantum or {}
    bucket.quantum = { begins = at, least = { [name] = left }, most = { [name] = left }, later = 0, seen = sent,
      odd = 0, agreed = 1, held = before.held, failed = before.failed }
  end

  -- The start is known. Calls sent until now have used up their second, unless a pause ends in a second that is unused.
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

  -- Learns when an answer says that everything is available again: `reset` us after its request. `left`: what the
  -- answer left (us of the rate). If a bucket refills continuously, that time moves with what is left; for a second it
  -- does not. Whole seconds are ignored: they are rounded, so they would move with the calls.
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
      -- The latest end is nearest to the truth, because its request was the fastest. Clocks drift.
      move(bucket, max(off, 0.02 * off))
      quantum.warm = quantum.warm or sent > quantum.sure
    else
      quantum.later = max(quantum.later, off)
      if most - least >= SECOND / 2 and quantum.agreed >= ENOUGH then known(bucket, now) end
    end
  end

  -- Whether at most a second's worth may be sent in the first second: nothing is known yet, or the second is being
  -- learned.
  local function learning(bucket, now)
    if now >= (bucket.began or now) + SECOND or bucket.throttled > 0 then return false end
    return bucket.done == 0 or bucket.quantum and not bucket.quantum.sure
  end

  -- Returns when a call fits that would exceed that, nil if now.
  function seconds.second_one(bucket, dim, name, width, now)
    if PERIOD[name] ~= MINUTE or dim[FIXED] > 0 or not bucket.began or not learning(bucket, now) then return end
    return dim[TAT] + width > bucket.began + SECOND + 1 and bucket.began + SECOND or nil
  end

  -- A 429 for a call that was sent by the seconds disproves them.
  function seconds.disprove(bucket, sent, now)
    local quantum = bucket.quantum
    if not quantum or not quantum.sure or sent <= quantum.sure then return end
    local failed = quantum.failed or 0
    bucket.quantum = { held = now + min(LONGEST_HOLD, FIRST_HOLD * 2 ^ min(failed, 10)), failed = failed + 1 }
  end

  -- All booked calls are sent later, or were given up in a pause. New shares begin behind the booked ones; if none are
  -- booked, with the second in which the pause ends, unless that has begun.
  function seconds.realign(bucket, dim, now)
    local opens = max(now, bucket.pause)
    local begins = second_of(bucket, opens)
    if dim[BOOKED] >= 1 or begins <= now then begins = second_of(bucket, max(opens, bucket.last)) + SECOND end
    dim[TAT] = begins + SECOND
  end
end
