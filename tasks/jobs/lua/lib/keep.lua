-- keep(key, seconds): a key that several batches share lives for at least that long; its lifetime is never shortened.

local function keep(key, seconds)
  redis.call('EXPIRE', key, seconds, 'NX')
  redis.call('EXPIRE', key, seconds, 'GT')
end
