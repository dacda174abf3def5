-- Ends the pause of a bucket by hand.
-- Guarantee: calls may be sent at once, at the rate. Calls that were booked before the pause are not sent earlier than
-- they would have been without it.
-- KEYS  1 the clock
-- ARGV  1 the time in us, 0: the server's
--       2 JSON: bucket
-- Returns what was left of the pause (us), 0 if there was none
--@include limits/lua/lib/namespace.lua
local now = clock(ARGV[1])
local name = cjson.decode(ARGV[2]).bucket
local bucket = read_bucket(name)
local left = bucket.pause - now
if left <= 0 then return 0 end
bucket.pause, bucket.strikes = now, 0
bucket.shift, bucket.last, bucket.hint = bucket.shift - left, bucket.last - left, min(bucket.hint, now)
bucket.slot = min(bucket.slot, now + bucket.pace)
for each, dim in pairs(bucket.dims) do
  if PERIOD[each] == MINUTE then dim[TAT] = dim[TAT] - left end
end
save_bucket(name, bucket)
commit()
return left
