-- Pauses a bucket after a 429 outside of a settlement.
-- Guarantee: nothing is sent before the wait is over; a pause is never made shorter.
-- KEYS  1 the clock
-- ARGV  1 the time in us, 0: the server's
--       2 JSON: bucket, retry_after (us, -1: not reported), dimension ('': not reported), sent_at (us, 0: now)
-- Returns the pause that is left (us)
--@include limits/lua/lib/settle.lua
local now = clock(ARGV[1])
local report = cjson.decode(ARGV[2])
local bucket = read_bucket(report.bucket)
throttle(bucket, report, report.sent_at > 0 and report.sent_at or now, nil, now)
save_bucket(report.bucket, bucket)
commit()
return ceil(max(0, bucket.pause - now))
