-- What every script begins with: the namespace's keys, and the clock.
--
-- KEYS[1] is the clock's key, "{namespace}:clock". Every other key of the namespace begins with the same hash tag
-- and so lies in the same slot; its name is built here and nowhere else in Lua (limits/keys.py lists them).

local PREFIX = string.sub(KEYS[1], 1, -6)
local max, min, ceil, floor, abs = math.max, math.min, math.ceil, math.floor, math.abs
local SECOND = 1000000            -- scripts count time in integer microseconds
local DAY = 86400 * SECOND

local LEASES = PREFIX .. 'leases'

-- The keys of a kind, each put together once.
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
local latch_key = keys_of('latch:')
local function budget_key(subject, window) return PREFIX .. 'budget:' .. subject .. ':' .. window end
local function ledger_key(day) return PREFIX .. 'ledger:' .. string.format('%d', day) end

-- A number as Redis takes it. Lua's own tostring keeps 14 digits, and a time in microseconds has 16.
local function integer(number) return string.format('%.0f', number) end

-- The time in microseconds: the server's, or `injected` where a test moves time. It never runs backwards, also
-- when the server's clock does: nothing refills, ends or opens twice.
local function clock(injected)
  local now = tonumber(injected)
  if now == 0 then
    local time = redis.call('TIME')
    now = time[1] * SECOND + time[2]
  end
  local latest = tonumber(redis.call('SET', KEYS[1], integer(now), 'PX', DAY / 1000, 'GET') or 0)
  if latest > now then
    redis.call('SET', KEYS[1], integer(latest), 'PX', DAY / 1000)
    return latest
  end
  return now
end

-- What many calls of a script say alike, such as their quota, comes as a text, and is read once.
local read_texts = {}
local function alike(text)
  local found = read_texts[text]
  if not found then
    found = cjson.decode(text)
    read_texts[text] = found
  end
  return found
end
