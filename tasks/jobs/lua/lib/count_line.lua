-- Count a settled call of a batch's line whose job goes on, in the batch's record and in what the line has spent.
--
-- `counts`: cost (n$), input tokens, output tokens, calls, 429s, cached and reasoning tokens, as text; the last two may be
-- absent.
local COUNTED = { 'cost', 'input_tokens', 'output_tokens', 'calls', 'throttled', 'cached_tokens', 'reasoning_tokens' }

local function count_line(record, spent, line, counts)
  for i, count in ipairs(counts) do
    if count ~= '0' then redis.call('HINCRBY', record, COUNTED[i], count) end
  end
  if counts[1] ~= '0' then
    redis.call('HINCRBY', spent, line, counts[1])
    redis.call('EXPIRE', spent, math.max(1, redis.call('TTL', record)))
  end
end
