-- Makes a tick due before all ticks that only come round, however many there are.

local BEFORE = 60   -- seconds before now at which it becomes due

local function wake(ticks, tick)
  local time = redis.call('TIME')
  redis.call('ZADD', ticks, 'XX', string.format('%d', (time[1] - BEFORE) * 1000000 + time[2]), tick)
end
