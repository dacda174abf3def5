-- Claims messages: moves them from their queues to `unacked` in one step, so no message exists only in a process.
--
-- Guarantee: a message is in a list or in `unacked`. Lists of one priority take turns of `share` messages, and lower
-- priority numbers go first. A queue never has more messages in flight than its cap. A message that is too large for a
-- worker becomes a dead letter.
-- KEYS  1 unacked (hash)  2 unacked_index (zset)  3 in_flight (hash)  4 ready (set)  5 wake (list)  6 dead (stream)
--       7.. lists
-- ARGV  1 most messages to claim  2 most of them from queues that are not urgent  3 bytes after which to stop
--       4 prefix of the delivery tags  5 number of the first tag  6 1: return the lists that may hold messages
--       7 bytes of the largest message that a worker gets
--       8 ms for which a dead letter is kept  9 dead letters kept  10 bytes of dead letters kept
--       11.. six for each list: name, priority, share (messages per turn), limit (messages in this claim, 0: none),
--            cap (messages of the queue in flight, 0: none), 1 if urgent
-- Returns {{tag, message, tag, message, …}, names of the lists that may hold messages if ARGV[6] is 1}
--@include workers/transport/lua/lib/message.lua
local left, ordinary, bytes = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local prefix, number, largest = ARGV[4], tonumber(ARGV[5]), tonumber(ARGV[7])
local now = us(clock())
local claimed, room = {}, {}

local lists = {}
for i = 7, #KEYS do
  local at = 11 + (i - 7) * 6
  local name, limit, cap = ARGV[at], tonumber(ARGV[at + 3]), tonumber(ARGV[at + 4])
  local queue = queue_of(name)
  if not room[queue] then
    room[queue] = cap > 0 and cap - tonumber(redis.call('HGET', KEYS[3], queue) or 0) or math.huge
  end
  lists[#lists + 1] = { key = KEYS[i], name = name, queue = queue, priority = tonumber(ARGV[at + 1]),
    share = tonumber(ARGV[at + 2]), limit = limit > 0 and limit or math.huge, urgent = ARGV[at + 5] == '1',
    taken = 0 }
end

local function pop(list)
  if left <= 0 or bytes <= 0 or room[list.queue] <= 0 or list.taken >= list.limit then return end
  if ordinary <= 0 and not list.urgent then return end
  local message = redis.call('RPOP', list.key)
  if not message then
    list.empty = true
    return
  end
  if #message > largest then
    local reason = 'it has ' .. us(#message) .. ' bytes, ' .. us(largest) .. ' at most'
    add_dead_letter(KEYS[6], list.name, reason, message, ARGV[8], ARGV[9], ARGV[10])
    return true
  end
  local tag = prefix .. number .. '@' .. list.name
  number = number + 1
  redis.call('HSET', KEYS[1], tag, message)
  redis.call('ZADD', KEYS[2], now, tag)
  claimed[#claimed + 1] = tag
  claimed[#claimed + 1] = message
  list.taken = list.taken + 1
  left, bytes, room[list.queue] = left - 1, bytes - #message, room[list.queue] - 1
  if not list.urgent then ordinary = ordinary - 1 end
  return true
end

local first = 1
while first <= #lists do
  local last = first
  while lists[last + 1] and lists[last + 1].priority == lists[first].priority do last = last + 1 end
  local progress = true
  while progress do
    progress = false
    for i = first, last do
      for _ = 1, lists[i].share do
        if lists[i].empty or not pop(lists[i]) then break end
        progress = true
      end
    end
  end
  first = last + 1
end

local more = false
for _, list in ipairs(lists) do
  if list.taken > 0 then count(KEYS[3], list.queue, list.taken) end
  if list.empty or (list.taken > 0 and redis.call('EXISTS', list.key) == 0) then
    redis.call('SREM', KEYS[4], list.name)
  elseif list.taken > 0 and room[list.queue] > 0 then
    more = true
  end
end
-- The rest is for the next idle worker, which then wakes another.
if more then wake_one(KEYS[5]) end
return { claimed, ARGV[6] == '1' and redis.call('SMEMBERS', KEYS[4]) or {} }
