-- What the transport's scripts share.
--
-- A delivery tag is 'unique@list': it says by itself which list its message came from, so that no script has to
-- look into a message. A list is 'queue', or 'queue' .. SEPARATOR .. priority.
local SEPARATOR = '\6\22'

-- The server's time in us.
local function clock()
  local time = redis.call('TIME')
  return time[1] * 1000000 + time[2]
end

local function us(value) return string.format('%d', value) end

-- The list that a tag names.
local function list_of(tag)
  return string.sub(tag, string.find(tag, '@', 1, true) + 1)
end

-- The queue that a list belongs to.
local function queue_of(list)
  local at = string.find(list, SEPARATOR, 1, true)
  return at and string.sub(list, 1, at - 1) or list
end

-- Adds to the count of a queue, and forgets it at zero.
local function count(key, queue, change)
  if redis.call('HINCRBY', key, queue, change) <= 0 then redis.call('HDEL', key, queue) end
end

-- Takes a message out of `unacked`: the message, or false where somebody else has it by now.
local function take(unacked, index, in_flight, tag)
  local message = redis.call('HGET', unacked, tag)
  redis.call('ZREM', index, tag)
  if message then
    redis.call('HDEL', unacked, tag)
    count(in_flight, queue_of(list_of(tag)), -1)
  end
  return message
end

-- Leaves a token for an idle worker, unless one is there.
local function wake_one(wake)
  if redis.call('LLEN', wake) == 0 then
    redis.call('LPUSH', wake, '1')
    redis.call('EXPIRE', wake, 60)
  end
end

-- A message that was delivered before says so: the worker's transport takes this mark off again.
local MARK = '{"redelivered": true, '
local function marked(message)
  if string.sub(message, 1, 1) ~= '{' or string.sub(message, 1, #MARK) == MARK then return message end
  return MARK .. string.sub(message, 2)
end
