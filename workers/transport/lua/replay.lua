-- Puts dead letters back into the queues that they came from. Their counts of deaths start again.
--
-- Guarantee: a message is in `dead` or in its queue.
-- KEYS  1 dead (stream)  2 ready (set)  3 wake (list)
-- ARGV  1 prefix of every key  2.. ids of dead letters
-- Returns how many messages were put back.
--@include workers/transport/lua/lib/message.lua
local done = 0
for i = 2, #ARGV do
  local found = redis.call('XRANGE', KEYS[1], ARGV[i], ARGV[i])[1]
  if found then
    local record = {}
    for j = 1, #found[2], 2 do record[found[2][j]] = found[2][j + 1] end
    if record.message ~= '' then  -- the text of a message that was too large is not kept
      redis.call('LPUSH', ARGV[1] .. record.list, (unmarked(record.message)))
      redis.call('SADD', KEYS[2], record.list)
      redis.call('XDEL', KEYS[1], ARGV[i])
      done = done + 1
    end
  end
end
if done > 0 then wake_one(KEYS[3]) end
return done
