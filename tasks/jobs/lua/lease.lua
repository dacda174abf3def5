-- Renew or give up the lease of a job in flight.
--
-- Guarantee: only the owner's lease changes.
-- KEYS  1 the job's own record (hash)      or, of a batch's job: 1 leases (zset)  2 owners (hash)
-- ARGV  1 renew or leave  2 owner  3 lease (µs)  4 now (µs; '' = the server's)
--       5 line, of a batch's job; else the lifetime of the record (s)
-- Returns 1 if it was this owner's, else 0.
--@include tasks/jobs/lua/lib/clock.lua
local what, owner, line = ARGV[1], ARGV[2], ARGV[5]
local now = now_or(ARGV[4])
local ends = string.format('%d', now + ARGV[3])
if not KEYS[2] then
  if redis.call('HGET', KEYS[1], 'owner') ~= owner then
    return 0
  end
  redis.call('EXPIRE', KEYS[1], ARGV[5])
  redis.call('HSET', KEYS[1], 'until', what == 'renew' and ends or '0')
  return 1
end
if redis.call('HGET', KEYS[2], line) ~= owner then
  return 0
end
if what == 'renew' then
  redis.call('ZADD', KEYS[1], ends, line)
else
  redis.call('ZREM', KEYS[1], line)
  redis.call('HDEL', KEYS[2], line)
end
return 1
