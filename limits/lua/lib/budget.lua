-- Money in n$. A budget's window is { spent, held }, a ledger row { column = n }.

local SPENT = 1  -- n$ of settled and presumed calls
local HELD = 2   -- n$ of open reservations

local function nothing_spent() return { 0, 0 } end
local function read_budget(key) return value_or(key, nothing_spent) end

-- Returns the key of the window that an admission at `at` falls into.
local function window_key(budget, at)
  local turned = budget['until'] > 0 and at >= budget['until']
  return budget_key(budget.subject, turned and budget.next_window or budget.window)
end

-- Adds `held` and `spent` to the windows at `keys`.
local function move_money(keys, held, spent)
  if held == 0 and spent == 0 then return end
  for _, key in ipairs(keys) do
    local budget = read_budget(key)
    -- A window that has expired no longer holds anything.
    budget[HELD] = max(0, budget[HELD] + held)
    budget[SPENT] = max(0, budget[SPENT] + spent)
    save(key, budget, LONGEST_LIFE)
  end
end

-- Adds to the columns of a ledger row. `day` counts from 1970-01-01, UTC.
local function enter(day, row, columns)
  if row == '' or not next(columns) then return end
  local key = ledger_key(day)
  local name = key .. row
  if not rows[name] then
    local blob = redis.call('HGET', key, row)
    rows[name] = { key = key, row = row, columns = blob and cmsgpack.unpack(blob) or {} }
    rows[#rows + 1] = rows[name]
  end
  local entry = rows[name].columns
  for column, n in pairs(columns) do entry[column] = (entry[column] or 0) + n end
end
