-- A tick that something has happened to is due before all that come round by themselves, however many these are.

local BEFORE = 60   -- seconds that it is due before now

local function wake(ticks, tick)
  local time = redis.call('TIME')
  redis.call('ZADD', ticks, 'XX', string.format('%d', (time[1] - BEFORE) * 1000000 + time[2]), tick)
end
