-- Reads buckets, circuits, blocked accounts and budgets as of now.
-- Guarantee: one step; changes nothing, so it also works on a server that takes no writes.
-- KEYS  1 the clock
-- ARGV  1 the time in us, 0: the server's
--       2 JSON: buckets [{ bucket, quota }], circuits, accounts, budgets, circuit_settings
-- Returns { now, open reservations, the server's own time (us),
--   [{ bucket, in flight, concurrency, paused until (us), urgent, [{ dimension, limit, rate, available, burst,
--      configured limit (0: none) }] }],
--   [{ circuit, state, until (us), by hand, calls, failures, retries left }],
--   [{ account, reason }], [{ subject, window, limit, spent, held, resets (us) }] }; fractions as strings
--@include limits/lua/lib/namespace.lua
local now, server_time = clock_seen(ARGV[1])
local ask = cjson.decode(ARGV[2])
local function fraction(number) return string.format('%.6f', number) end

local buckets = {}
for _, each in ipairs(ask.buckets) do
  local bucket = read_bucket(each.bucket)
  local configured, dims = alike(each.quota), {}
  local charge = { quota = configured, costs = {} }
  stated.count(charge, bucket)
  local quota = charge.quota
  for name, limit in pairs(quota.limits) do
    local dim = dimension(bucket, quota, name, limit, now)
    take_back(bucket, dim, name, now)
    local unit = interval(dim, name)
    local room = capacity(dim, name)
    local free = min(room, room - (max(dim[TAT], now) - now)) / unit
    local in_force = dim[REPORTED] > 0 and min(dim[REPORTED], limit) or limit
    dims[#dims + 1] = { name, in_force, fraction(SECOND / unit), fraction(free), fraction(room / SECOND),
      configured.limits[name] or 0 }
  end
  buckets[#buckets + 1] = { each.bucket, bucket.flight, quota.concurrency,
    bucket.pause > now and bucket.pause or 0, reserved(bucket, now) and 1 or 0, dims }
end

local circuits, settings = {}, alike(ask.circuit_settings)
for _, name in ipairs(ask.circuits) do
  local circuit = read_circuit(name)
  local calls, failures = ended_lately(circuit, settings, now)
  circuits[#circuits + 1] = { name, circuit.state, circuit.till > now and circuit.till or 0,
    circuit.by_hand and 1 or 0, calls, failures, fraction(circuit.retries and retries(circuit, settings, now) or -1) }
end

local latches = {}
for _, account in ipairs(ask.accounts) do
  local block = blocked.active(account)
  if block then latches[#latches + 1] = { account, block.reason } end
end

local budgets = {}
for _, budget in ipairs(ask.budgets) do
  local turned = budget['until'] > 0 and now >= budget['until']
  local money = read_budget(window_key(budget, now))
  budgets[#budgets + 1] = { budget.subject, turned and budget.next_window or budget.window, budget.limit,
    money[SPENT], money[HELD], turned and 0 or budget['until'] }
end
return { now, redis.call('ZCARD', LEASES), server_time, buckets, circuits, latches, budgets }
