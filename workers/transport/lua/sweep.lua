#!lua flags=allow-oom
-- Brings back what is due, and what dead workers have left: one worker at a time, a batch a call.
--
-- What is restored counts how many workers have ended with it. From the second one on such messages come back one
-- after the other, ever further apart: the one that ends its workers does so with fewer and fewer others.
--
-- Guarantee: a message is restored only after a visibility timeout without a heartbeat, and never before the workers
-- have had one timeout to send theirs since the server was away (nobody has swept for a third of a timeout).
-- KEYS  1 sweep (hash)  2 delayed (zset)  3 delayed_messages (hash)  4 delayed_counts (hash)
--       5 unacked (hash)  6 unacked_index (zset)  7 in_flight (hash)  8 ready (set)  9 wake (list)
-- ARGV  1 prefix of every key  2 µs between two sweeps  3 visibility timeout (µs)  4 how many of each at the most
-- Returns {1 if this call has swept, µs until the next sweep, brought back as due, restored}
--@include workers/transport/lua/lib/message.lua
local prefix, every, timeout = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
local now = clock()
local state = redis.call('HMGET', KEYS[1], 'seen', 'next', 'grace', 'spaced')
local seen, following, grace = tonumber(state[1] or 0), tonumber(state[2] or 0), tonumber(state[3] or 0)
-- A clock that was set back must not stop the sweeps.
if now < following and following <= now + every then
  return { 0, following - now, 0, 0 }
end
if now - seen > timeout / 3 or now < seen then grace = now + timeout end
if now < seen then
  -- What a clock that was ahead has left looks alive for as long as it was.
  for _, tag in ipairs(redis.call('ZRANGE', KEYS[6], '(' .. us(now), '+inf', 'BYSCORE')) do
    redis.call('ZADD', KEYS[6], us(now), tag)
  end
end

local due = redis.call('ZRANGE', KEYS[2], '-inf', us(now), 'BYSCORE', 'LIMIT', 0, ARGV[4])
-- A list is read from its right end: the one that has waited longest goes there last.
for i = #due, 1, -1 do
  local tag = due[i]
  local list = list_of(tag)
  local message = redis.call('HGET', KEYS[3], tag)
  redis.call('HDEL', KEYS[3], tag)
  redis.call('ZREM', KEYS[2], tag)
  count(KEYS[4], queue_of(list), -1)
  if message then
    redis.call('RPUSH', prefix .. list, message)
    redis.call('SADD', KEYS[8], list)
  end
end

local restored, spaced = 0, tonumber(state[4] or 0)
-- Parts of a visibility timeout: a minute's are 1, 5 and 20 seconds.
local APART = { [2] = 60, [3] = 12 }
if now >= grace then
  local stale = redis.call('ZRANGE', KEYS[6], '-inf', us(now - timeout), 'BYSCORE', 'LIMIT', 0, ARGV[4])
  for _, tag in ipairs(stale) do
    local message = take(KEYS[5], KEYS[6], KEYS[7], tag)
    if message then
      local list = list_of(tag)
      local restoring, deaths = marked(message, true)
      if deaths > 1 then
        spaced = math.max(now, spaced) + math.floor(timeout / (APART[deaths] or 3))
        redis.call('HSET', KEYS[3], tag, restoring)
        redis.call('ZADD', KEYS[2], us(spaced), tag)
        count(KEYS[4], queue_of(list), 1)
      else
        redis.call('RPUSH', prefix .. list, restoring)
        redis.call('SADD', KEYS[8], list)
      end
      restored = restored + 1
    end
  end
end

if #due + restored > 0 then wake_one(KEYS[9]) end
local full = #due == tonumber(ARGV[4]) or restored == tonumber(ARGV[4])
following = full and now or now + every
redis.call('HSET', KEYS[1], 'seen', us(now), 'next', us(following), 'grace', us(grace), 'spaced', us(spaced))
redis.call('EXPIRE', KEYS[1], 86400)
return { 1, following - now, #due, restored }
