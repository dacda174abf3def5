-- Settle a call of a batch's line whose job goes on, and count it in the batch, in one step.
--
-- Guarantee: a settlement counts once, even if it is sent again, and whatever becomes of its job.
-- KEYS  1 clock  2 the batch's record (hash)  3 spent (hash: line -> n$)
-- ARGV  1 now (us; 0 = the server's)  2 settlement (JSON, as lib/settle.lua takes it)  3 line
--       4 cost (n$)  5 input tokens  6 output tokens  7 calls  8 429s
-- Returns { verdict, 1 if the settlement opened a circuit else 0 }
--@include limits/lua/lib/settle.lua
--@include tasks/jobs/lua/lib/count_line.lua
local now = clock(ARGV[1])
local verdict, opened = settle(now, cjson.decode(ARGV[2]))
commit()
if (verdict == 'settled' or verdict == 'corrected') and redis.call('EXISTS', KEYS[2]) == 1 then
  count_line(KEYS[2], KEYS[3], ARGV[3], { unpack(ARGV, 4, 8) })
end
return { verdict, opened }
