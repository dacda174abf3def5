-- A call or a step of an agent has ended: write its entry and settle its reservation, in one step.
--
-- Guarantee: only the delivery that holds the job's lease writes an entry, and only once; the job and the batch count
-- its cost then. If a delivery has lost the lease, the call is settled and the batch counts it, but its answer is
-- dropped.
-- KEYS  1 clock  2 journal (hash)  3 record: the batch's hash, or the job's own  4 owners, of a batch's job
-- ARGV  1 now (µs; 0 = the server's)  2 settlement (JSON, see lib/settle.lua; '' = no reservation is open)
--       3 owner of the lease  4 position  5 head (JSON)  6 body ('' = none)
--       7 cost (n$)  8 input tokens  9 output tokens  10 calls  11 429s  12 round
--       13 line ('' without a batch)  14… position and seconds of each call that the agent gave up
-- Returns {verdict, the batch's status ('' without one)}: verdict is kept, repeated (it was written before), or lost
--         (another delivery holds the lease, or another round has begun).
--@include limits/lua/lib/settle.lua
local now = clock(ARGV[1])
local settled = 'settled'
if ARGV[2] ~= '' then
  settled = settle(now, cjson.decode(ARGV[2]))
  commit()
end

local line = ARGV[13]
local status, owner = '', nil
if line ~= '' then
  status = redis.call('HGET', KEYS[3], 'status') or ''
  owner = redis.call('HGET', KEYS[4], line)
else
  owner = redis.call('HGET', KEYS[3], 'owner')
end

local function count(key)
  redis.call('HINCRBY', key, 'cost', ARGV[7])
  redis.call('HINCRBY', key, 'input_tokens', ARGV[8])
  redis.call('HINCRBY', key, 'output_tokens', ARGV[9])
  redis.call('HINCRBY', key, 'calls', ARGV[10])
  redis.call('HINCRBY', key, 'throttled', ARGV[11])
end

local entry = redis.call('HGET', KEYS[2], 'e:' .. ARGV[4])
if entry and cjson.decode(entry).round == tonumber(ARGV[12]) then
  return { 'repeated', status }
end
if owner ~= ARGV[3] or redis.call('HGET', KEYS[2], 'round') ~= ARGV[12] then
  -- Count the money once: a settlement that is sent again returns another verdict.
  if status ~= '' and (settled == 'settled' or settled == 'corrected') and ARGV[2] ~= '' then
    count(KEYS[3])
  end
  return { 'lost', status }
end
redis.call('HSET', KEYS[2], 'e:' .. ARGV[4], ARGV[5])
if ARGV[6] ~= '' then
  redis.call('HSET', KEYS[2], 'b:' .. ARGV[4], ARGV[6])
else
  redis.call('HDEL', KEYS[2], 'b:' .. ARGV[4])
end
redis.call('HDEL', KEYS[2], 'o:' .. ARGV[4], 'wait')
for i = 14, #ARGV, 2 do
  redis.call('HSET', KEYS[2], 'g:' .. ARGV[i], ARGV[i + 1])
end
count(KEYS[2])
if status ~= '' then
  count(KEYS[3])
end
return { 'kept', status }
