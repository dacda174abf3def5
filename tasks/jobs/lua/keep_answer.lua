-- Settle the call of an answer and keep the answer, in one step: its job asks for a further one.
--
-- Guarantee: a settlement counts once. An answer is kept only by the delivery that holds the job's lease, or for a line
-- in the batch lane that has none yet, and never for a job that has ended.
-- KEYS  1 clock  2 record: the batch's hash, or the job's own
--       3 kept (hash: line -> answer)  4 owners  5 done bitmap  6 failed bitmap  7 spent (hash)
--       3 to 7 only if the job is a batch's
-- ARGV  1 now (us; 0 = the server's)  2 settlement (JSON, as lib/settle.lua takes it)
--       3 owner of the lease; '' for a line in the batch lane  4 answer to keep  5 line
--       6 cost (n$)  7 input tokens  8 output tokens  9 calls  10 429s  11 cached tokens  12 reasoning tokens
--       5 to 12 only count if the job is a batch's
-- Returns { 1 if the answer is kept else 0, 1 if the settlement opened a circuit else 0 }
--@include limits/lua/lib/settle.lua
--@include tasks/jobs/lua/lib/count_line.lua
local now = clock(ARGV[1])
local verdict, opened = settle(now, cjson.decode(ARGV[2]))
commit()
local owner, line = ARGV[3], ARGV[5]
if not KEYS[3] then
  if redis.call('HGET', KEYS[2], 'owner') ~= owner or redis.call('HEXISTS', KEYS[2], 'answer') == 1 then
    return { 0, opened }
  end
  redis.call('HSET', KEYS[2], 'kept', ARGV[4])
  return { 1, opened }
end
if redis.call('EXISTS', KEYS[2]) == 0 then return { 0, opened } end
if verdict == 'settled' or verdict == 'corrected' then
  count_line(KEYS[2], KEYS[7], line, { unpack(ARGV, 6, 12) })
end
if redis.call('GETBIT', KEYS[5], line) == 1 or redis.call('GETBIT', KEYS[6], line) == 1 then return { 0, opened } end
if owner == '' then
  redis.call('HSETNX', KEYS[3], line, ARGV[4])
elseif redis.call('HGET', KEYS[4], line) ~= owner then
  return { 0, opened }
else
  redis.call('HSET', KEYS[3], line, ARGV[4])
end
redis.call('EXPIRE', KEYS[3], math.max(1, redis.call('TTL', KEYS[2])))
return { 1, opened }
