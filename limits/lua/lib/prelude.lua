-- What every script begins with: the namespace's keys, and the clock.
--
-- KEYS[1] is the clock's key, "{namespace}:clock". Every other key of the namespace begins with the same hash tag, so
-- it lies in the same slot. Lua builds those names only here; limits/keys.py lists them.

local PREFIX = string.sub(KEYS[1], 1, -6)
local max, min, ceil, floor, abs = math.max, math.min, math.ceil, math.floor, math.abs
local SECOND = 1000000            -- scripts count time in integer microseconds
local DAY = 86400 * SECOND

local LEASES = PREFIX .. 'leases'

-- Returns a function that builds the keys of a kind, each once.
local function keys_of(kind)
  local names = {}
  return function(id)
    local name = names[id]
    if not name then
      name = PREFIX .. kind .. id
      names[id] = name
    end
    return name
  end
end
local reservation_key = keys_of('reservation:')
local bucket_key = keys_of('bucket:')
local circuit_key = keys_of('circuit:')
local block_key = keys_of('latch:')
local function budget_key(subject, window) return PREFIX .. 'budget:' .. subject .. ':' .. window end
local function ledger_key(day) return PREFIX .. 'ledger:' .. string.format('%d', day) end

-- A number as Redis takes it. Lua's tostring keeps 14 digits, and a time in microseconds has 16.
local function integer(number) return string.format('%.0f', number) end

-- The time in microseconds that scripts go by: the server's, or `injected` if a test moves time. It never runs
-- backwards, even if the server's clock does, so nothing refills, ends or opens twice. After the server's clock was set
-- back (or a replica with a slower clock took over), it runs on a tenth slower than the server's until that has caught
-- up.
local clock, clock_seen
do  -- a script may have 200 local names at a time
  local SLOWER = 0.9  -- the pace of time while it is ahead of the server's
  local LEAD = PREFIX .. 'clock:lead'

  local function server_time(injected)
    local now = tonumber(injected)
    if now ~= 0 then return now end
    local time = redis.call('TIME')
    return time[1] * SECOND + time[2]
  end

  -- Returns the time if the latest that scripts have seen is ahead of the server's.
  local function time_ahead(latest, now)
    local at, seen = string.match(redis.call('GET', LEAD) or '', '^(%d+) (%d+)$')
    if tonumber(at) ~= latest then return latest end  -- the server's clock was set back just now
    return max(now, latest + floor(max(0, now - tonumber(seen)) * SLOWER + 0.5))
  end

  -- For a script that changes nothing. Also returns the server's own time.
  function clock_seen(injected)
    local now = server_time(injected)
    local latest = tonumber(redis.call('GET', KEYS[1]) or 0)
    return latest > now and time_ahead(latest, now) or now, now
  end

  -- For a script that may change something.
  function clock(injected)
    local now = server_time(injected)
    local latest = tonumber(redis.call('SET', KEYS[1], integer(now), 'PX', DAY / 1000, 'GET') or 0)
    if latest > now then
      local ahead = time_ahead(latest, now)
      redis.call('SET', KEYS[1], integer(ahead), 'PX', DAY / 1000)
      redis.call('SET', LEAD, integer(ahead) .. ' ' .. integer(now), 'PX', DAY / 1000)
      return ahead
    end
    return now
  end
end

-- Parses a text that many calls of a script share, such as their quota, once.
local read_texts = {}
local function alike(text)
  local found = read_texts[text]
  if not found then
    found = cjson.decode(text)
    read_texts[text] = found
  end
  return found
end
