-- Takes over what headers reported outside of a settlement.
-- Guarantee: this can only lower the level of a bucket; the headers of an older request change nothing.
-- KEYS  1 the clock
-- ARGV  1 the time in us, 0: the server's
--       2 JSON: bucket, levels { dimension = [limit, remaining, us until full], -1: not reported }, sent_at (us)
-- Returns nothing
--@include limits/lua/lib/settle.lua
local now = clock(ARGV[1])
local report = cjson.decode(ARGV[2])
if not stored(bucket_key(report.bucket)) then return false end
local bucket = read_bucket(report.bucket)
observe(bucket, report.levels, report.sent_at, nil, now)
save_bucket(report.bucket, bucket)
commit()
return false
