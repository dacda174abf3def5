-- Limits that the provider's headers state, beside the configured ones.
--
-- If no request limit is configured, but good answers state one, it applies from the first answer on. It ends when
-- answers have stated none for a while.
-- A limit below the configured one that only refusals state is tested. It doubles with each second of answers until it
-- is no limit any more, or until the next refusal states it again. Then it is left alone for twice as long.
-- bucket.stated = { requests a minute, when an answer stated it last (us), whether calls are counted by it }

local DOUBT = 23  -- of a limit that only refusals stated: when it is raised next, how long it was left alone before,
                  -- and when it was learned (us); false: answers state it, or nothing does

local stated = {}
do
  local FIRST_DOUBT = 2 * SECOND    -- how long a limit is left alone at first
  local LAST_DOUBT = 3600 * SECOND  -- and at most

  -- Adds the limit that the bucket's provider states to a charge, if none is configured.
  function stated.count(charge, bucket)
    local found = bucket.stated
    if not found or charge.quota.limits.rpm then return end
    local quota = setmetatable({ limits = { rpm = found[1] } }, { __index = charge.quota })
    for name, limit in pairs(charge.quota.limits) do quota.limits[name] = limit end
    charge.quota, charge.costs.rpm, found[3] = quota, 1, true
  end

  -- Takes over a dimension's limit from headers. `dim` is nil if the bucket has none. `refused`: they came with a 429.
  function stated.take(bucket, dim, name, limit, refused, sent, now)
    if name == 'rpm' and not refused then
      bucket.stated = { limit, now, bucket.stated and bucket.stated[3] or false }
    end
    if not dim then return end
    local doubt = dim[DOUBT]
    if not refused then
      dim[DOUBT] = false
    elseif dim[REPORTED] == 0 or doubt then
      local hold = FIRST_DOUBT
      if doubt and now - doubt[3] < 2 * LAST_DOUBT then
        hold = sent > doubt[3] and min(LAST_DOUBT, 2 * doubt[2]) or doubt[2]
      end
      dim[DOUBT] = { now + hold, hold, now }
    end
    dim[REPORTED] = limit
  end

  -- A call that was sent at `sent` was answered. `levels`: what its headers reported, nil if nothing.
  function stated.test(bucket, levels, sent, now)
    local found = bucket.stated
    if found and not (levels and levels.rpm) and now - found[2] > HEADERS_FRESH then
      if found[3] then bucket.dims.rpm = nil end
      bucket.stated = nil
    end
    for _, dim in pairs(bucket.dims) do
      local doubt = dim[DOUBT]
      if doubt and dim[REPORTED] > 0 and sent > bucket.throttled and now >= max(doubt[1], bucket.pause) then
        dim[REPORTED] = 2 * dim[REPORTED] < dim[LIMIT] and 2 * dim[REPORTED] or 0
        doubt[1] = now + SECOND
      end
    end
  end
end
