-- now_or(given): the time in µs that the caller gives, as tests do; the server's if it is ''.

local function now_or(given)
  local now = tonumber(given)
  if now then
    return now
  end
  local time = redis.call('TIME')
  return time[1] * 1000000 + time[2]
end
