-- Pauses a bucket after a 429 outside of a settlement.
-- Guarantee: nothing leaves before the wait is over; a pause only ever grows.
-- KEYS  1 the clock
-- ARGV  1 the time in us, 0: the server's   2 JSON: bucket, retry_after (us, -1: not told), dimension ('': not told),
--       sent_at (us, 0: now)
-- Returns for how long the bucket is paused (us)
--@include limits/lua/lib/settle.lua
local now = clock(ARGV[1])
local told = cjson.decode(ARGV[2])
local bucket = read_bucket(told.bucket)
throttle(bucket, told, told.sent_at > 0 and told.sent_at or now, nil, now)
save_bucket(told.bucket, bucket)
commit()
return ceil(max(0, bucket.pause - now))
