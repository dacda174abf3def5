-- What every script begins with: the namespace's keys, the clock, and packed values.
--
-- KEYS[1] is the clock's key, "{namespace}:clock". Every other key of the namespace begins with the same hash tag
-- and so lies in the same slot; its name is built here and nowhere else in Lua (limits/keys.py lists them).

local PREFIX = string.sub(KEYS[1], 1, -6)
local SECOND = 1000000            -- scripts count time in integer microseconds
local DAY = 86400 * SECOND

local LEASES = PREFIX .. 'leases'
local function reservation_key(id) return PREFIX .. 'reservation:' .. id end
local function bucket_key(id) return PREFIX .. 'bucket:' .. id end
local function circuit_key(id) return PREFIX .. 'circuit:' .. id end
local function latch_key(account) return PREFIX .. 'latch:' .. account end
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

local function unpacked(blob) return blob and cmsgpack.unpack(blob) or nil end

-- Stores a table for `lifetime` microseconds.
local function save(key, value, lifetime)
  redis.call('SET', key, cmsgpack.pack(value), 'PX', integer(lifetime / 1000 + 1))
end
