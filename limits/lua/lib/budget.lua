-- Money in n$: a budget's window is { spent, held }; a ledger row is { column = n }.

local BUDGET_LIFE = 400 * DAY
local SPENT, HELD = 1, 2

local function read_budget(blob) return unpacked(blob) or { 0, 0 } end

-- The key of the window into which an admission at `at` falls.
local function window_key(budget, at)
  local turned = budget['until'] > 0 and at >= budget['until']
  return budget_key(budget.subject, turned and budget.next_window or budget.window)
end

-- Moves money in the windows at `keys`: `held` and `spent` are added.
local function move_money(keys, held, spent)
  if #keys == 0 or (held == 0 and spent == 0) then return end
  local blobs = redis.call('MGET', unpack(keys))
  for i, key in ipairs(keys) do
    local budget = read_budget(blobs[i])
    -- A window that has expired holds nothing any more.
    budget[HELD] = math.max(0, budget[HELD] + held)
    budget[SPENT] = math.max(0, budget[SPENT] + spent)
    save(key, budget, BUDGET_LIFE)
  end
end

-- Adds to the columns of a ledger row of a day (since 1970-01-01, UTC).
local function enter(day, row, columns)
  if row == '' or not next(columns) then return end
  local key = ledger_key(day)
  local entry = unpacked(redis.call('HGET', key, row)) or {}
  for name, n in pairs(columns) do entry[name] = (entry[name] or 0) + n end
  if redis.call('HSET', key, row, cmsgpack.pack(entry)) == 1 then
    redis.call('PEXPIRE', key, integer(BUDGET_LIFE / 1000))
  end
end
