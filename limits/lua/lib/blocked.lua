-- Blocked accounts: whether a refusal blocks an account or one of its models, and for how long.
--
-- A certain refusal blocks the account at once. Any other blocks the account's model when a second job is refused too
-- and no call was answered in between. One job's second refusal is enough if the account has not been answered for an
-- hour. While an account is blocked, one call may try it every `cooldown`, which doubles when that call is refused. The
-- block ends when a call is answered that was sent after the first refused one.
--
-- latch = {
--   reason    why it is blocked; '': it is only suspected
--   job       the job that was refused first
--   since     when its request was sent (us)
--   till      when a call may try the account (us)
--   cooldown  us
--   key       which key of the account is blocked, '*': any
-- }

local blocked = {}

do
local FIRST_TRY = 30 * SECOND    -- the first cooldown of a block
local LAST_TRY = 1800 * SECOND   -- and the longest
local BLOCK_LIFE = 90 * DAY      -- how long a block is stored
local SUSPECTED = 3600 * SECOND  -- how long a suspicion lasts, and an answer counts as proof
local PLAIN_TEXT = 128           -- a first byte below this begins a reason that was stored on its own

-- Returns the block, or suspicion, of an account or of one of its models; or nil.
function blocked.read(name)
  local key = block_key(name)
  local blob = stored(key)
  if blob and not values[key] and string.byte(blob) < PLAIN_TEXT then
    values[key] = { reason = blob, job = '', since = 0, till = 0, cooldown = FIRST_TRY, key = '*' }
  end
  local block = value(key)
  return block and block.job and block or nil
end

function blocked.store(name, block) save(block_key(name), block, block.reason == '' and SUSPECTED or BLOCK_LIFE) end

-- Returns the block of an account, nil if it may be called.
function blocked.active(name)
  local block = blocked.read(name)
  return block and block.reason ~= '' and block or nil
end

-- Ends a block or a suspicion.
function blocked.clear(name) save(block_key(name), {}, SECOND) end

-- Returns the name of what blocks a call now; nil if the call may be sent or may try a blocked account.
function blocked.barring(account, scope, now)
  for _, name in ipairs({ account, scope or '' }) do
    local block = name ~= '' and blocked.active(name)
    if block and now < block.till then return name end
  end
end

-- Whether this call tries a blocked account. If so, no other call does until the next cooldown is over.
function blocked.begin_try(account, scope, now)
  local any = false
  for _, name in ipairs({ account, scope }) do
    local block = name ~= '' and blocked.active(name)
    if block then
      block.till, any = now + block.cooldown, true
      blocked.store(name, block)
    end
  end
  return any
end

-- A call of a reservation was answered: refusals of calls that were sent before it no longer count.
function blocked.record_answer(reservation, circuit, now)
  circuit.good = circuit.good or {}
  circuit.good[reservation.account] = now
  for _, name in ipairs({ reservation.account, reservation.scope or '' }) do
    local block = name ~= '' and blocked.read(name)
    if block and reservation.sent > block.since then blocked.clear(name) end
  end
end

-- Whether the account was answered within the last hour.
function blocked.answered_lately(circuit, account, now)
  local good = circuit.good and circuit.good[account]
  return good ~= nil and now - good < SUSPECTED
end

-- A call was refused. Returns 1 if that blocked something, and 1 if calls like it are blocked from now on.
function blocked.record_refusal(word, reservation, now)
  for _, name in ipairs({ word.account, word.scope }) do
    local block = name ~= '' and blocked.active(name)
    if block then
      if reservation and reservation.tries then
        block.cooldown = min(LAST_TRY, 2 * block.cooldown)
        block.till = now + block.cooldown
        blocked.store(name, block)
      end
      return 0, 1
    end
  end
  local name = (word.certain or word.scope == '') and word.account or word.scope
  local sent = reservation and (reservation.sent or 0) > 0 and reservation.sent or now
  local block = blocked.read(name)
  local again = block and (block.job ~= word.job
    or not blocked.answered_lately(read_circuit(reservation and reservation.circuit or ''), word.account, now))
  if not word.certain and not again then
    blocked.store(name, block or { reason = '', job = word.job, since = sent })
    return 0, 0
  end
  blocked.store(name, { reason = word.reason, job = word.job, since = block and block.since or sent,
    till = now + FIRST_TRY, cooldown = FIRST_TRY, key = word.key })
  return 1, 1
end
end
