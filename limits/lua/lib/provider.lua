-- What a provider reports about a bucket, in the headers of its answers and in its 429s. Needs bucket.lua.

local LONG_WAIT = 5 * SECOND        -- a longer wait cannot come from the rate
local MINUTES_FRESH = 300 * SECOND  -- how long after such a wait the provider counts as one that counts by the minute
local MORE = 1.05                   -- a larger part of a limit within a minute is above it, even if calls were lost

-- Whether a wait has shown lately that the provider counts by the minute.
local function by_the_minute(bucket, now) return now - (bucket.minutes or 0) < MINUTES_FRESH end

-- Remembers what an answer shows. Of the latest answers, the one that shows least counts: a call of a stalled worker
-- may be sent before a request and reach the provider after it, and then the answer shows more than is left.
-- `empty`: the value of SENT at which nothing would have been left when the request was sent, at `sent`. `sure`: the
-- same if all calls that were open then arrive late.
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

-- Takes over what headers reported: { name = { limit, remaining } }, -1 if they didn't. `sent`: when their request was
-- sent. `part`: its reservation's part for this bucket, nil if not known. `refused`: the 429 that they came with, nil
-- if none.
--
-- A level below ours is believed, because someone else uses the key. If the provider counts by the second, the level
-- must be lower by more than a quarter of a second.
--
-- A level above ours is believed only if
-- - the burst is learned,
-- - the reported limit is not above the configured one, and
-- - we know everything that was admitted since.
-- Even then the level stays behind the last booked call. It goes no further than the other answers of this second have
-- shown, and no further than this answer leaves if all open calls arrive late. A second of it stays unused, because
-- booked calls may use that; a quarter of a second, if the provider ever reported room for many.
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
        -- What was sent after that request, and what is booked.
        local since = mine and dim[SENT] - mine[4] + dim[BOOKED] / each or 0
        if mine and not refused then dim[EMPTY] = mine[4] + remaining end
        -- What the provider counts as used, and what it has not seen yet. At most, its bucket is full when those are
        -- sent.
        local unit = refill(dim, name)
        local empty = max(sent + (max(0, total - remaining) + since) * unit,
          max(now, bucket.last) + since * unit)
        -- The headroom of our burst stays unused, but not that of the whole period: a provider that counts by the
        -- second never has that much left.
        local level = max(empty - (PERIOD[name] - capacity(dim, name)) / dim[HEADROOM],
          now + capacity(dim, name) - max(0, (remaining * dim[HEADROOM] - since) * each + now - sent))
        if dim[REPORTED] > dim[LIMIT] then
          -- The key is allowed more than we may use, so only what is left can limit us.
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
        -- A provider that counts by the second reports almost nothing left at the end of each, however evenly calls are
        -- sent.
        local doubt = dim[MOST] > FEW and 0 or WINDOW / 4
        if level > dim[TAT] + doubt then
          dim[TAT] = level
        elseif spare < dim[TAT] and dim[FIXED] == 0 and dim[REPORTED] <= dim[LIMIT] and mine
          and sent > bucket.throttled then
          dim[TAT] = spare
        end
      end
    end
  end
end

-- Whether headers had reported that nothing would be left for a refused call. They count as up to date within a
-- twentieth of the limit. Such a call was refused because the provider gives back later than by the rate, as one that
-- counts by the minute does, and not because it allows less. A provider that never reported more than a few seconds'
-- worth counts by the second. There the next call is always close to the last one left, and more comes back soon.
local function foreseen(bucket, reported, part)
  if not part then return false end
  for name, mine in pairs(part.dims) do
    local dim = bucket.dims[name]
    if dim and (dim[EMPTY] or -1) >= 0 and dim[MOST] > FEW and abs(mine[4] - dim[EMPTY]) <= 0.05 * dim[LIMIT]
      and (reported.dimension == '' or reported.dimension == name) then return true end
  end
  return false
end

-- Whether a burst that was too large may grow again at once, from the start. It may if headers report nothing and waits
-- are, or were lately, much longer than by the rate. Such a provider counts by the minute and gives back as was used:
-- as fast as the burst grew a minute before.
local function restarts(bucket, dim, name, now)
  return by_the_minute(bucket, now) and not opens_wide(dim, name, now)
end

-- A 429. Nothing is sent before the wait is over. Booked calls are postponed in their order. They keep their spacing
-- unless it came from a burst that has proved too large: then they ask again.
-- `reported`: { bucket, retry_after (us, -1: not reported), dimension ('': not named), overload, limited, longest (us,
-- 0: none) }, as in limits.reservation.Throttle.
-- `sent`: when the refused request was sent. `part`: its reservation's part for this bucket, nil if not known.
-- Requests that were sent before the last 429 arrived belong to the same event. A new event means that the bucket was
-- fuller than we believed.
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
  local fell = false
  for name, dim in pairs(bucket.dims) do
    if moved > 0 and PERIOD[name] == MINUTE then dim[TAT] = dim[TAT] + moved end
    if PERIOD[name] == MINUTE and (reported.dimension == '' or reported.dimension == name) then
      if fresh and dim[FIXED] == 0 and not known and not overload then
        -- What is left stays the same: calls that were sent under the larger burst are no debt.
        local anew = restarts(bucket, dim, name, now)
        local less = anew and dim[BURST] - 1 or min(dim[BURST] / 2, dim[BURST] - 1)
        dim[BURST], dim[TAT] = dim[BURST] - less, dim[TAT] - less * SECOND
        if not anew then
          dim[HOLD] = now + min(LONGEST_HOLD, FIRST_HOLD * 2 ^ min(dim[HOLDS], 10))
          dim[HOLDS] = dim[HOLDS] + 1
        end
        fell = fell or less > 0 and not opens_wide(dim, name, now)
      end
      -- After the wait the provider has room for the rate, not for a burst. If it reports what is left, we owe less:
      -- what the headroom keeps unused, and the calls in flight, which it may have counted already.
      local debt = opens_wide(dim, name, now)
        and PERIOD[name] * (1 / dim[HEADROOM] - 1) + (dim[SENT] - (dim[DONE] or dim[SENT])) * interval(dim, name) or 0
      dim[TAT] = max(dim[TAT] - debt, max(now, bucket.pause) + capacity(dim, name) + dim[BOOKED])
    end
  end
  if fell then void_booked(bucket, now) end
  if fresh then
    bucket.throttled = now
    local for_requests = reported.dimension == '' or reported.dimension == 'rpm'
    if for_requests and not bucket.dims.rpm and not reported.limited then slow_down(bucket, now) end
  end
end
