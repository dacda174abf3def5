-- A circuit and the retry budget of its traffic. limits/circuit.py explains the settings.
--
-- circuit = {
--   state       'closed', 'open' or 'half-open'
--   till        when its cooldown ends, or if it is closed, when it closed (us)
--   streak      how often it has opened in a row
--   generation  counts the changes of state
--   probe       the id of the probe's reservation, '': none is out
--   proved      successful probes in a row
--   by_hand     whether a person holds it
--   slots       { { slot number, calls, failures }, ... }
--   retries     retries saved
--   earned      when they were last computed (us)
--   good        { account = when a call of it was last answered (us) }
-- }

local SLOTS = 10                -- parts in which the window is counted
local PROBE_TAKES = 2 * SECOND  -- how soon to ask again while a probe is out
local CIRCUIT_LIFE = DAY        -- how long a circuit without calls is stored
local BY_HAND_LIFE = 90 * DAY   -- the same if a person holds it

local function new_circuit()
  return { state = 'closed', till = 0, streak = 0, generation = 0, probe = '', proved = 0,
    by_hand = false, slots = {}, earned = 0 }
end

local function read_circuit(id) return value_or(circuit_key(id), new_circuit) end

local function save_circuit(id, circuit)
  save(circuit_key(id), circuit, circuit.by_hand and BY_HAND_LIFE or CIRCUIT_LIFE)
end

-- Returns whether a call may pass, whether it would be the probe, and how long to wait if it may not (us).
local function passes(circuit, now)
  if circuit.state == 'closed' then return true, false, 0 end
  if circuit.by_hand then return false, false, 30 * SECOND end
  if circuit.state == 'open' and now < circuit.till then return false, false, circuit.till - now end
  if circuit.probe ~= '' then return false, false, PROBE_TAKES end
  return true, true, 0
end

-- Sends a probe, in a new generation: results of earlier calls, or of a probe that got lost, say nothing about now.
local function probe(circuit, id)
  circuit.state = 'half-open'
  circuit.generation = circuit.generation + 1
  circuit.probe = id
end

-- Opens the circuit, each time in a row for twice as long. A row ends when the circuit stays closed for the longest
-- cooldown.
local function open(circuit, settings, jitter, now)
  local longest = settings.longest_cooldown
  if circuit.state == 'closed' and now - circuit.till > longest * SECOND then circuit.streak = 0 end
  local cooldown = min(longest, settings.cooldown * 2 ^ circuit.streak)
  circuit.state = 'open'
  circuit.till = now + ceil(cooldown * (0.8 + 0.4 * jitter) * SECOND)
  if cooldown < longest then circuit.streak = circuit.streak + 1 end
  circuit.generation = circuit.generation + 1
  circuit.probe, circuit.proved, circuit.slots = '', 0, {}
end

-- Returns the retries that may be made now.
local function retries(circuit, settings, now)
  local saved = circuit.retries or settings.most_retries
  local since = (now - circuit.earned) / SECOND
  return min(settings.most_retries, saved + since * settings.retries_per_second)
end

local function spend_retry(circuit, settings, now)
  circuit.retries = retries(circuit, settings, now) - 1
  circuit.earned = now
end

-- A retry was not made. At most `most` are saved.
local function return_retry(circuit, most) circuit.retries = min(most, (circuit.retries or most) + 1) end

local function slot_of(settings, now) return floor(now / (settings.window * SECOND / SLOTS)) end

-- Returns how many calls ended within the window, and how many of them failed.
local function ended_lately(circuit, settings, now)
  local calls, failures = 0, 0
  for _, each in ipairs(circuit.slots) do
    if each[1] > slot_of(settings, now) - SLOTS then calls, failures = calls + each[2], failures + each[3] end
  end
  return calls, failures
end

-- Counts a call's end, 'ok' or 'failure'. Returns 1 if that opened the circuit.
local function record(circuit, settings, reservation, id, outcome, jitter, now)
  circuit.retries = min(settings.most_retries, retries(circuit, settings, now) + settings.retries_per_call)
  circuit.earned = now
  if reservation.generation ~= circuit.generation or circuit.by_hand then return 0 end
  if circuit.state == 'half-open' then
    if circuit.probe ~= id then return 0 end
    circuit.probe = ''
    if outcome == 'failure' then
      open(circuit, settings, jitter, now)
      return 1
    end
    circuit.proved = circuit.proved + 1
    if circuit.proved >= settings.probes then
      circuit.state, circuit.till, circuit.proved, circuit.slots = 'closed', now, 0, {}
      circuit.generation = circuit.generation + 1
      circuit.streak = max(0, circuit.streak - 1)
    end
    return 0
  end
  if circuit.state ~= 'closed' then return 0 end
  local slot = slot_of(settings, now)
  local current = circuit.slots[#circuit.slots]
  if not current or current[1] ~= slot then
    local kept = {}
    for _, each in ipairs(circuit.slots) do
      if each[1] > slot - SLOTS then kept[#kept + 1] = each end
    end
    current = { slot, 0, 0 }
    kept[#kept + 1] = current
    circuit.slots = kept
  end
  current[2] = current[2] + 1
  if outcome ~= 'failure' then return 0 end
  current[3] = current[3] + 1
  local calls, failures = ended_lately(circuit, settings, now)
  if calls >= settings.volume and failures >= settings.ratio * calls then
    open(circuit, settings, jitter, now)
    return 1
  end
  return 0
end
