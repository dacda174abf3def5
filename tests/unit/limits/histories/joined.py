"""Histories of calls that are sent as one, beside the same calls sent one by one in another namespace."""

from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from limits.admission import admit, settle, sweep
from limits.circuit import CircuitSettings
from limits.keys import Keys
from limits.reservation import Admitted, Ask, Settlement, Throttle
from tests.support.provider_feedback import block_account
from tests.unit.limits.histories.admissions import Fleet
from tests.unit.limits.world import World

if TYPE_CHECKING:
    from collections.abc import Mapping

    import redis

    from limits.client.scripts import Call, Script

DIFFERENCES: Final = """
local function same(a, b)
  if type(a) == 'string' and type(b) == 'string' then return a:gsub(KEYS[1], KEYS[2]) == b end
  if type(a) ~= 'table' or type(b) ~= 'table' then return a == b end
  for k, v in pairs(a) do if not same(v, b[k]) then return false end end
  for k in pairs(b) do if a[k] == nil then return false end end
  return true
end
local function read(key)
  local kind = redis.call('TYPE', key).ok
  if kind == 'zset' then return redis.call('ZRANGE', key, 0, -1, 'WITHSCORES') end
  if kind == 'hash' then
    local rows, flat = {}, redis.call('HGETALL', key)
    for i = 1, #flat, 2 do rows[flat[i]] = cmsgpack.unpack(flat[i + 1]) end
    return rows
  end
  local blob = redis.call('GET', key)
  local known, table = pcall(cmsgpack.unpack, blob or '')
  if not known then return blob end
  -- A dimension that no call has used, nor waited for, is the same as none.
  for name, dim in pairs(type(table) == 'table' and table.dims or {}) do
    if dim[1] == 0 and dim[3] == 0 and dim[5] == 0 and dim[6] == 0 and dim[9] == 0 then table.dims[name] = nil end
  end
  return table
end
local found = {}
for _, pair in ipairs({ { KEYS[1], KEYS[2] }, { KEYS[2], KEYS[1] } }) do
  for _, key in ipairs(redis.call('KEYS', '{' .. pair[1] .. '}:*')) do
    local other = key:gsub(pair[1], pair[2])
    if redis.call('EXISTS', other) == 0 then found[#found + 1] = key .. ' is alone' end
    local lives = math.abs(redis.call('PTTL', key) - redis.call('PTTL', other)) < 5000
    if pair[1] == KEYS[1] and not (lives and same(read(key), read(other))) then found[#found + 1] = key end
  end
end
return found
"""


def joined(client: "redis.Redis", seed: int, scripts: "Mapping[str, Script] | None" = None) -> None:
    """Calls that are sent as one have the same answers and effects as one by one."""
    client.flushdb()  # the comparison reads all keys
    differences = client.register_script(DIFFERENCES)
    world = World(client, seed, scripts, "joined")
    alone = Keys(f"single{seed}")
    fleet, pick = Fleet(world), world.random
    settings = CircuitSettings(window=5.0, volume=4, cooldown=1.0)
    live: list[tuple[str, Admitted, Ask]] = []

    def both(*calls: "Call[Any]") -> list[Any]:
        first = calls[0]
        bodies = [call.args[-1] for call in calls]
        reply = client.register_script(first.script.source)(first.keys, [first.args[0], *bodies])
        told = [call.parse(each) for call, each in zip(calls, reply if len(calls) > 1 else [reply], strict=True)]
        assert told == [world.server.run(replace(call, keys=(alone.clock,))) for call in calls], "the answers"
        assert differences([f"joined{seed}", f"single{seed}"]) == [], "what is stored"
        return told

    def ask(name: str) -> Ask:
        return Ask(
            name,
            pick.choice(["o", "o", "o", "thief"]),
            fleet.candidates(world),
            fleet.budgets,
            max_wait=pick.choice([0.0, 1.0, 10.0]),
            lease=pick.choice([0.5, 5.0, 60.0]),
            urgent=pick.random() < 0.15,
            retry=pick.random() < 0.1,
            send_at_once=pick.random() < 0.5,
            circuit=settings,
        )

    def settlement(call: Ask, answer: Admitted) -> Settlement:
        candidate = call.candidates[answer.candidate]
        charges = candidate.charges
        return Settlement(
            amount=pick.randint(0, candidate.amount),
            costs=tuple({"rpm": 1, "tpm": pick.randint(0, each.costs["tpm"])} for each in charges),
            outcome=pick.choice(["ok", "ok", "failure", "neutral"]),
            columns={"calls": 1},
            throttles=(Throttle(charges[0].bucket, 0.5),) if pick.random() < 0.05 else (),
            circuit=settings,
        )

    for turn in range(6):
        world.pass_time(pick.expovariate(2.0))
        both(world.call(sweep, 100))  # a single call sweeps, too, and several more than one
        if pick.random() < 0.1:
            both(world.call(block_account, pick.choice(fleet.accounts), pick.choice(["pay the bill", ""])))
        asks = [ask(f"r{turn}-{pick.randint(0, 6)}") for _ in range(pick.randint(1, 8))]
        answers = both(*(world.call(admit, each) for each in asks))
        for call, answer in zip(asks, answers, strict=True):
            if isinstance(answer, Admitted) and not answer.repeated:
                live.append((call.id, answer, call))
        world.pass_time(pick.expovariate(2.0))
        ending = [pick.choice(live) for _ in range(pick.randint(1, 8))] if live else []
        if ending:
            both(*(world.call(settle, name, call.owner, settlement(call, answer)) for name, answer, call in ending))
