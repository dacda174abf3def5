-- What a provider tells of a bucket: by the headers of its answers, and by its 429s. It needs bucket.lua.

local LONG_WAIT = 5 * SECOND         -- a wait that is longer than this is none for the rate
local MINUTES_FRESH = 300 * SECOND   -- so long after one a provider is taken for one that counts by the minute
local MORE = 1.05                    -- so much of a limit within a minute is more than it, whichever calls were lost

-- Whether a wait has lately shown that the provider counts by the minute.
local function by_the_minute(bucket, now) return now - (bucket.minutes or 0) < MINUTES_FRESH end

-- Keeps what an answer shows, of the latest ones that which shows least. Calls that left before a request may reach the
-- provider after it, from a worker that was held up: such an answer shows more than is left.
-- `empty`: the units of LEFT at which nothing would have been left when its request left, at `sent`; `sure`: the same
-- if all calls that were open then were late.
local function show(dim, name, empty, sure, sent, now)
  local shown, unit = dim[SHOWN], refill(dim, name)
  if not shown or now - shown[5] > SHOWN_FOR then
    shown = { empty, sent, empty, sent, now }
  elseif now - shown[5] > SHOWN_FOR / 2 then
    shown = { empty, sent, shown[1], shown[2], now }
  elseif empty - sent / unit < shown[1] - shown[2] / unit then
    shown[1], shown[2] = empty, sent
  end
  dim[SHOWN], dim[SURE] = shown, { sure, now }
end

-- Takes over what headers reported: { name = { limit, remaining, us until everything is there } }, -1 for what they did not.
-- `sent`: when that request left; `part`: its reservation's share of this bucket, nil if not known.
-- A level below ours is believed: someone else uses the key; of who counts by the second only one that is lower by more
-- than a quarter of one. One above ours only where the burst is learned, the limit reported is no higher than the one
-- configured, and all that was admitted since is known; behind the last booked call, and no further than what the other
-- answers of this second have shown, or than this one leaves even if all open calls were late. All but a second of it,
-- which may be the share of a second that booked calls are going to use, or a quarter where many were ever reported to be
-- left.
-- `refused`: they came with a 429.
local function observe(bucket, levels, sent, part, now, refused)
  for name, reported in pairs(levels) do
    local dim = bucket.dims[name]
    local limit, remaining = reported[1], reported[2]
    if not dim and name == 'rpm' and limit > 0 then
      bucket.told = MINUTE / limit
      stated.take(bucket, nil, name, limit, refused, sent, now)
    end
    if dim and sent >= dim[SEEN] and (limit > 0 or remaining >= 0) then
      dim[SEEN] = sent
      if limit > 0 then stated.take(bucket, dim, name, limit, refused, sent, now) end
      if remaining >= 0 then
        local total = dim[REPORTED] > 0 and dim[REPORTED] or dim[LIMIT]
        dim[MOST] = max(dim[MOST] or -1, remaining * PERIOD[name] / total / SECOND)
        local each = interval(dim, name)
        local mine = part and part.dims[name]
        mine = mine and mine[4] >= 0 and mine
        -- What left after that request, and what is booked.
        local since = mine and dim[SENT] - mine[4] + dim[BOOKED] / each or 0
        if mine and not refused then dim[EMPTY] = mine[4] + remaining end
        -- What the provider says is used, and what it has not seen yet. Its bucket is full at most when that leaves.
        local unit = refill(dim, name)
        local empty = max(sent + (max(0, total - remaining) + since) * unit,
          max(now, bucket.last) + since * unit)
        -- Of that the headroom of our burst stays unused, and not that of the whole period: a provider that counts
        -- by the second never has as much left.
        local level = max(empty - (PERIOD[name] - capacity(dim, name)) / dim[HEADROOM],
          now + capacity(dim, name) - max(0, (remaining * dim[HEADROOM] - since) * each + now - sent))
        if dim[REPORTED] > dim[LIMIT] then
          -- The key is allowed more than we may use of it: only what is left can bind us.
          level = now + capacity(dim, name) - max(0, remaining - since) * each
        end
        local slack = dim[MOST] > FEW and WINDOW / 4 or WINDOW
        local spare = max(level, bucket.last) + slack
        if mine and not refused then
          show(dim, name, mine[4] + remaining, (mine[6] or 0) + remaining, sent, now)
          if mine[7] then
            allow(dim, mine[4] + remaining - mine[7], now)
            if name == 'rpm' and mine[4] - mine[7] > MORE * total and not by_the_minute(bucket, now) then
              bucket.refills = true
            end
          end
          spare = max(spare, shown_level(dim, name, now) + slack)
        end
        -- Who counts by the second shows next to nothing left at the end of each, however evenly calls leave.
        local doubt = dim[MOST] > FEW and 0 or WINDOW / 4
        if seconds.hold(bucket, dim, name, now) then
          -- What is left of a second says nothing of the next ones.
        elseif level > dim[TAT] + doubt then
          dim[TAT] = level
        elseif spare < dim[TAT] and dim[FIXED] == 0 and dim[REPORTED] <= dim[LIMIT] and mine
          and sent > bucket.throttled then
          dim[TAT] = spare
        end
      end
    end
    if dim and not refused and remaining >= 0 and reported[3] >= 0 then
      local total = dim[REPORTED] > 0 and dim[REPORTED] or dim[LIMIT]
      seconds.learn(bucket, dim, name, remaining * PERIOD[name] / total, reported[3], sent, now)
    end
  end
end

-- Whether headers had reported that nothing would be left for a refused call, within a twentieth of the limit (past that
-- they are out of date): it left since the provider gives back later than by the rate, as who counts by the minute
-- does, and not since it holds less. Who never reported of more than a few seconds' worth counts by the second: there,
-- whoever comes next is always close to the last that is left, and what is left is soon given back.
local function foreseen(bucket, reported, part)
  if not part then return false end
  for name, mine in pairs(part.dims) do
    local dim = bucket.dims[name]
    if dim and (dim[EMPTY] or -1) >= 0 and dim[MOST] > FEW and abs(mine[4] - dim[EMPTY]) <= 0.05 * dim[LIMIT]
      and (reported.dimension == '' or reported.dimension == name) then return true end
  end
  return false
end

-- Whether a burst that was too large may grow again at once, from the start: where headers tell nothing, and waits are
-- much longer than by the rate, or were lately. Such a provider counts by the minute, and gives back as was used: as
-- quickly as the burst has grown a minute before.
local function restarts(bucket, dim, name, now)
  return by_the_minute(bucket, now) and not opens_wide(dim, name, now)
end

-- A 429: nobody's call leaves before the wait is over; those booked are postponed with their order, and with their spacing
-- unless that came of a burst that has shown to be too large.
-- `reported`: { bucket, retry_after (us, -1: not reported), dimension ('': not named), overload: it is no 429, but a provider that
-- is down or overloaded, and says nothing of how large a burst may be, limited: another bucket of the call limits its
-- requests, so that no pace is learned here, longest: it pauses for no longer, whatever it tells (us, 0: as it tells) }
-- `sent`: when the refused request left; `part`: its reservation's share of this bucket, nil if not known. What left
-- before the last 429 was learnt of belongs to the same event; a new one means that the bucket was fuller than we
-- believed.
local function throttle(bucket, reported, sent, part, now)
  local fresh = sent > bucket.throttled
  local wait, known = reported.retry_after, foreseen(bucket, reported, part)
  local overload = reported.overload
  if wait > LONG_WAIT and not overload and PERIOD[reported.dimension] ~= DAY then
    bucket.minutes, bucket.refills = now, false
  end
  if wait < 0 then
    if fresh then bucket.strikes = bucket.strikes + 1 end
    wait = min(MINUTE, SECOND * 2 ^ max(0, min(bucket.strikes - 1, 6)))
  end
  if reported.longest > 0 then wait = min(wait, reported.longest) end
  local ends = now + wait
  local moved = ends - max(bucket.pause, now)
  if moved > 0 then
    bucket.pause = ends
    bucket.shift = bucket.shift + moved
    bucket.last = bucket.last + moved
  end
  if not overload then seconds.disprove(bucket, sent, now) end
  for name, dim in pairs(bucket.dims) do
    if moved > 0 and PERIOD[name] == MINUTE then dim[TAT] = dim[TAT] + moved end
    if PERIOD[name] == MINUTE and (reported.dimension == '' or reported.dimension == name) then
      if fresh and dim[FIXED] == 0 and not known and not overload then
        -- What is left of it stays the same: calls that left under the larger one are no debt.
        local anew = restarts(bucket, dim, name, now)
        local less = anew and dim[BURST] - 1 or min(dim[BURST] / 2, dim[BURST] - 1)
        dim[BURST], dim[TAT] = dim[BURST] - less, dim[TAT] - less * SECOND
        if not anew then
          dim[HOLD] = now + min(LONGEST_HOLD, FIRST_HOLD * 2 ^ min(dim[HOLDS], 10))
          dim[HOLDS] = dim[HOLDS] + 1
        end
        if not opens_wide(dim, name, now) then
          -- Calls that were booked while it grew leave quicker than the rate: they take turns.
          bucket.falls = (bucket.falls or 0) + 1
          dim[OUT] = max(now, bucket.pause)
        end
      end
      -- After the wait the provider has room for the rate, not for a burst. Where it tells what is left, that none was
      -- is no debt beyond it, by what the headroom keeps unused, and by the calls in flight: it may have counted them.
      local debt = opens_wide(dim, name, now)
        and PERIOD[name] * (1 / dim[HEADROOM] - 1) + (dim[SENT] - (dim[DONE] or dim[SENT])) * interval(dim, name) or 0
      dim[TAT] = max(dim[TAT] - debt, max(now, bucket.pause) + capacity(dim, name) + dim[BOOKED])
    end
    if moved > 0 and seconds.hold(bucket, dim, name, now) then seconds.realign(bucket, dim, now) end
  end
  if fresh then
    bucket.throttled = now
    local for_requests = reported.dimension == '' or reported.dimension == 'rpm'
    if for_requests and not bucket.dims.rpm and not reported.limited then slow_down(bucket, now) end
  end
end
