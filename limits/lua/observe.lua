-- Takes over levels that headers told outside of a settlement.
-- Guarantee: such a level can only lower ours; an older request's header changes nothing.
-- KEYS  1 the clock
-- ARGV  1 the time in us, 0: the server's   2 JSON: bucket, levels { dimension = [limit, remaining, us until full], -1: not told },
--       sent_at (us)
-- Returns nothing
--@include limits/lua/lib/settle.lua
local now = clock(ARGV[1])
local told = cjson.decode(ARGV[2])
if not stored(bucket_key(told.bucket)) then return false end
local bucket = read_bucket(told.bucket)
observe(bucket, told.levels, told.sent_at, nil, now)
save_bucket(told.bucket, bucket)
commit()
return false
