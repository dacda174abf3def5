#!lua flags=allow-oom
-- Puts delayed messages that are due and messages of dead workers back into their queues. One worker sweeps at a time,
-- a batch of messages each call.
--
-- A restored message counts the workers that died while they had it. From the second death on, such messages return one
-- by one, further and further apart, so that a message that kills its workers takes fewer and fewer others with it.
--
-- Guarantee: a message is restored only after a visibility timeout without a heartbeat. If the server was away (no
-- sweep for a third of a timeout), workers first get one timeout to send their heartbeats.
-- KEYS  1 sweep (hash)  2 delayed (zset)  3 delayed_messages (hash)  4 delayed_counts (hash)
--       5 unacked (hash)  6 unacked_index (zset)  7 in_flight (hash)  8 ready (set)  9 wake (list)
-- ARGV  1 prefix of every key  2 µs between two sweeps  3 visibility timeout (µs)  4 most messages of each kind
-- Returns {1 if this call has swept, µs until the next sweep, due messages, restored messages}
--@include workers/transport/lua/lib/message.lua
local prefix, every, timeout = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
local now = clock()
local state = redis.call('HMGET', KEYS[1], 'seen', 'next', 'grace', 'spaced')
local seen, following, grace = tonumber(state[1] or 0), tonumber(state[2] or 0), tonumber(state[3] or 0)
-- If the clock was set back, sweep anyway.
if now < following and following <= now + every then
  return { 0, following - now, 0, 0 }
end
if now - seen > timeout / 3 or now < seen then grace = now + timeout end
if now < seen then
  -- Heartbeats from before the clock was set back would look recent for that long.
  for _, tag in ipairs(redis.call('ZRANGE', KEYS[6], '(' .. us(now), '+inf', 'BYSCORE')) do
    redis.call('ZADD', KEYS[6], us(now), tag)
  end
end

local due = redis.call('ZRANGE', KEYS[2], '-inf', us(now), 'BYSCORE', 'LIMIT', 0, ARGV[4])
-- Workers pop from the right end: push the message that has waited longest last.
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
-- By deaths: the gap between two messages, as a part of the visibility timeout. Of a minute: 1, 5, then 20 seconds.
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
