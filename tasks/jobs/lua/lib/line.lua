-- Whether a message is a line of its batch.
--
-- The batch's token is in its record alone. A proof is a digest of it with the line and the round (tasks/jobs/proof.py).

-- What has to be read of the record, in this order.
local PROOF = { 'status', 'round', 'workflow', 'token', 'bytes' }

-- `batch`: the values of PROOF. A line takes a byte at least, so that no bit beyond the file's bytes is ever set.
local function proved(batch, line, round, workflow, proof)
  local number = tonumber(line)
  return batch[3] == workflow and number >= 1 and number <= tonumber(batch[5]) and tonumber(round) <= tonumber(batch[2])
    and (batch[4] or '') ~= '' and redis.sha1hex(line .. ':' .. round .. ':' .. batch[4]) == proof
end
