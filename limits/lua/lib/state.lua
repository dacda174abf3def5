-- Holds what a script reads and changes until the script ends. However many calls it decides on, each key is read,
-- unpacked, packed and written once. Before `commit` nothing has changed but the clock.

local AT_ONCE = 1000               -- arguments of one command: Lua passes some thousands at most
local LONGEST_LIFE = 400 * DAY     -- how long anything is kept, above all money
local blobs, values = {}, {}       -- by key: as it was read (false: nothing), and as a table
local changed, lifetimes = {}, {}  -- the keys to write, in order; and how long they live (us), by key
local leases = {}                  -- by reservation: when its lease ends (us), false: it has none any more
local rows = {}                    -- of the ledger: { key, row, columns }, in order and by name

-- Reads the keys that were not read yet, in one command.
local function fetch(keys)
  local names = {}
  for _, key in ipairs(keys) do
    if blobs[key] == nil then
      names[#names + 1] = key
      blobs[key] = false
    end
  end
  for first = 1, #names, AT_ONCE do
    local found = redis.call('MGET', unpack(names, first, min(first + AT_ONCE - 1, #names)))
    for i, blob in ipairs(found) do blobs[names[first + i - 1]] = blob end
  end
end

-- Returns what is stored at a key, false if nothing.
local function stored(key)
  if blobs[key] == nil then blobs[key] = redis.call('GET', key) end
  return blobs[key]
end

-- Returns the table at a key, or nil. A caller that changes it must `save` it.
local function value(key)
  local found = values[key]
  if not found then
    local blob = stored(key)
    found = blob and cmsgpack.unpack(blob) or nil
    values[key] = found
  end
  return found
end

-- Returns the table at a key, or what `new` makes.
local function value_or(key, new)
  local found = value(key) or new()
  values[key] = found
  return found
end

-- Marks a table to be stored for `lifetime` microseconds.
local function save(key, table, lifetime)
  values[key] = table
  if not lifetimes[key] then changed[#changed + 1] = key end
  lifetimes[key] = lifetime
end

local function each_part(command, key, arguments)
  for first = 1, #arguments, AT_ONCE do
    redis.call(command, key, unpack(arguments, first, min(first + AT_ONCE - 1, #arguments)))
  end
end

-- Writes everything that has changed.
local function commit()
  for _, key in ipairs(changed) do
    redis.call('SET', key, cmsgpack.pack(values[key]), 'PX', integer(lifetimes[key] / 1000 + 1))
  end
  local begun, ended = {}, {}
  for id, till in pairs(leases) do
    if till then
      begun[#begun + 1] = integer(till)
      begun[#begun + 1] = id
    else
      ended[#ended + 1] = id
    end
  end
  each_part('ZREM', LEASES, ended)
  each_part('ZADD', LEASES, begun)
  if #begun > 0 then
    redis.call('PEXPIRE', LEASES, integer(LONGEST_LIFE / 1000))
  end
  for _, each in ipairs(rows) do
    if redis.call('HSET', each.key, each.row, cmsgpack.pack(each.columns)) == 1 then
      redis.call('PEXPIRE', each.key, integer(LONGEST_LIFE / 1000))
    end
  end
end
