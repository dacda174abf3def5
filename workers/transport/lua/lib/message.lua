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

-- A message that was delivered before says so, and with how many workers it has ended: the worker's transport takes
-- this mark off again (workers/transport/message.py).
local MARK = '{"redelivered": true, '
local DEATHS = '^{"redelivered": true, "deaths": (%d+), '

-- A message without its mark, and the deaths that this has counted.
local function unmarked(message)
  local deaths = string.match(message, DEATHS)
  if deaths then
    return '{' .. string.sub(message, #MARK + #'"deaths": , ' + #deaths + 1), tonumber(deaths)
  end
  if string.sub(message, 1, #MARK) == MARK then return '{' .. string.sub(message, #MARK + 1), 0 end
  return message, 0
end

-- `died`: its worker has ended with it; else it was given back. The marked message, and how many workers have.
local function marked(message, died)
  if string.sub(message, 1, 1) ~= '{' then return message, 0 end
  local rest, deaths = unmarked(message)
  if died then deaths = deaths + 1 end
  local count = deaths > 0 and '"deaths": ' .. us(deaths) .. ', ' or ''
  return MARK .. count .. string.sub(rest, 2), deaths
end

-- Adds a message to the dead list, and lets the oldest go beyond what it keeps: `ms`, `count` and `bytes`. One that
-- would fill a quarter of it is noted without its text. Each entry knows how many bytes were added before it.
local function entomb(dead, list, reason, message, ms, count, bytes)
  local limit = tonumber(bytes)
  redis.call('XTRIM', dead, 'MINID', us(math.max(0, math.floor(clock() / 1000) - tonumber(ms))))
  if #message > limit / 4 then
    reason, message = reason .. ' (its ' .. us(#message) .. ' bytes are not kept)', ''
  end
  -- The bytes that were added before an entry, and with it.
  local function bytes_of(entry)
    local found = {}
    for i = 1, #entry[2], 2 do found[entry[2][i]] = entry[2][i + 1] end
    local before = tonumber(found.before or 0)
    return before, before + #found.message
  end
  local last = redis.call('XREVRANGE', dead, '+', '-', 'COUNT', 1)[1]
  local _, before = 0, 0
  if last then _, before = bytes_of(last) end
  local id = redis.call('XADD', dead, 'MAXLEN', '~', count, '*', 'list', list, 'reason', reason, 'message', message,
    'before', us(before))
  while true do
    local first = redis.call('XRANGE', dead, '-', '+', 'COUNT', 1)[1]
    if first[1] == id or before + #message - bytes_of(first) <= limit then break end
    redis.call('XDEL', dead, first[1])
  end
  redis.call('PEXPIRE', dead, ms)
  return id
end
