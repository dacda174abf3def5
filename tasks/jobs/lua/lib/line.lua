-- Whether a message is a line of its batch.
--
-- Only the batch's record has its token. A proof is a digest of line, round and token (tasks/jobs/proof.py).

-- The fields of the record to read, in this order.
local PROOF = { 'status', 'round', 'workflow', 'token', 'bytes' }

-- `batch`: the values of PROOF. A line takes at least one byte, so no bit beyond the file's size in bytes is ever set.
local function proved(batch, line, round, workflow, proof)
  local number = tonumber(line)
  return batch[3] == workflow and number >= 1 and number <= tonumber(batch[5]) and tonumber(round) <= tonumber(batch[2])
    and (batch[4] or '') ~= '' and redis.sha1hex(line .. ':' .. round .. ':' .. batch[4]) == proof
end
