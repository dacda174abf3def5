-- Functions that the transport's scripts share.
--
-- A delivery tag is 'unique@list'. It contains the list of its message, so that no script has to parse a message. A
-- list is 'queue', or 'queue' .. SEPARATOR .. priority.
local SEPARATOR = '\6\22'

-- The server's time in µs.
local function clock()
  local time = redis.call('TIME')
  return time[1] * 1000000 + time[2]
end

local function us(value) return string.format('%d', value) end

-- The list in a tag.
local function list_of(tag)
  return string.sub(tag, string.find(tag, '@', 1, true) + 1)
end

-- The queue of a list.
local function queue_of(list)
  local at = string.find(list, SEPARATOR, 1, true)
  return at and string.sub(list, 1, at - 1) or list
end

-- Adds to the count of a queue; removes the count at zero.
local function count(key, queue, change)
  if redis.call('HINCRBY', key, queue, change) <= 0 then redis.call('HDEL', key, queue) end
end

-- Takes a message out of `unacked`. Returns the message, or false if it is no longer there.
local function take(unacked, index, in_flight, tag)
  local message = redis.call('HGET', unacked, tag)
  redis.call('ZREM', index, tag)
  if message then
    redis.call('HDEL', unacked, tag)
    count(in_flight, queue_of(list_of(tag)), -1)
  end
  return message
end

-- Leaves a token for an idle worker, unless there is one.
local function wake_one(wake)
  if redis.call('LLEN', wake) == 0 then
    redis.call('LPUSH', wake, '1')
    redis.call('EXPIRE', wake, 60)
  end
end

-- A redelivered message starts with a mark, which counts the workers that died while they had it. The worker's
-- transport reads and removes it (workers/transport/message.py).
local MARK = '{"redelivered": true, '
local DEATHS = '^{"redelivered": true, "deaths": (%d+), '

-- Returns a message without its mark, and its count of deaths.
local function unmarked(message)
  local deaths = string.match(message, DEATHS)
  if deaths then
    return '{' .. string.sub(message, #MARK + #'"deaths": , ' + #deaths + 1), tonumber(deaths)
  end
  if string.sub(message, 1, #MARK) == MARK then return '{' .. string.sub(message, #MARK + 1), 0 end
  return message, 0
end

-- Adds the mark; with `died`, one more death. Returns the marked message and its count of deaths.
local function marked(message, died)
  if string.sub(message, 1, 1) ~= '{' then return message, 0 end
  local rest, deaths = unmarked(message)
  if died then deaths = deaths + 1 end
  local count = deaths > 0 and '"deaths": ' .. us(deaths) .. ', ' or ''
  return MARK .. count .. string.sub(rest, 2), deaths
end

-- Adds a dead letter, and drops the oldest beyond the limits `ms`, `count` and `bytes`. The text of a message of more
-- than a quarter of `bytes` is not kept. Each entry has the number of bytes added before it. Returns the new id.
local function add_dead_letter(dead, list, reason, message, ms, count, bytes)
  local limit = tonumber(bytes)
  redis.call('XTRIM', dead, 'MINID', us(math.max(0, math.floor(clock() / 1000) - tonumber(ms))))
  if #message > limit / 4 then
    reason, message = reason .. ' (its ' .. us(#message) .. ' bytes are not kept)', ''
  end
  -- Returns the bytes that were added before an entry, and up to its end.
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
