-- Records that an account refused a call, or unblocks an account.
-- Guarantee: the first reason stays until the block ends; several refusals at one moment count once.
-- KEYS  1 the clock
-- ARGV  1 the time in us, 0: the server's
--       2 JSON: account, scope ('': none), reason ('': unblock), certain, job, id (of the reservation, '': none),
--         key ('*': any; to unblock: only if it was blocked under another key)
-- Returns { 1 if that changed anything, 1 if calls like this one are blocked from now on }
--@include limits/lua/lib/namespace.lua
local now = clock(ARGV[1])
local word = cjson.decode(ARGV[2])
local changed, barred = 0, 0
if word.reason ~= '' then
  changed, barred = blocked.record_refusal(word, word.id ~= '' and read_reservation(word.id) or nil, now)
else
  local block = blocked.active(word.account)
  if block and (word.key == '*' or (block.key ~= '*' and block.key ~= word.key)) then
    blocked.clear(word.account)
    changed = 1
  end
end
commit()
return { changed, barred }
