"""The Lua builds the names that keys.py lists, and scripts touch no other key."""

import re

import pytest

from limits.admission import admit, sent, settle
from limits.budget import BudgetWindow
from limits.client.scripts import Call, Script, compose
from limits.keys import Keys
from limits.reservation import Level, Settlement, Throttle
from tests.support.provider_feedback import block_account
from tests.unit.limits.world import SECOND, START, World

KEYS = Keys("ns")

#: The files that build names.
SOURCE = "--@include limits/lua/lib/prelude.lua\n--@include limits/lua/lib/part.lua\n"

BUILDERS = {
    "LEASES": KEYS.leases,
    "reservation_key('id')": KEYS.reservation("id"),
    "parts_key('id')": KEYS.parts("id"),
    "bucket_key('p/0/model:x')": KEYS.bucket("p/0/model:x"),
    "circuit_key('p/model')": KEYS.circuit("p/model"),
    "block_key('p/0')": KEYS.blocked_account("p/0"),
    "budget_key('workflow/w', '2026-11-25')": KEYS.budget("workflow/w", "2026-11-25"),
    "ledger_key(20782)": KEYS.ledger(20_782),
    "KEYS[1]": KEYS.clock,
    "PREFIX": KEYS.prefix,
}


@pytest.mark.parametrize(("expression", "expected"), BUILDERS.items())
def test_lua_builds_the_same_name(world: World, expression: str, expected: str) -> None:
    source = compose(f"{SOURCE}return {expression}\n")
    call = Call(Script("test", source), (KEYS.clock,), (), bytes.decode)
    assert world.server.run(call) == expected


def test_every_builder_is_compared() -> None:
    functions = set(re.findall(r"local (?:function )?(\w+_key)\b", compose(SOURCE)))
    assert functions == {match[0] for name in BUILDERS if (match := re.match(r"\w+_key", name))}


def test_a_call_touches_the_keys_that_are_listed(world: World) -> None:
    budget = BudgetWindow("w", 10**9, "d1", START + 60 * SECOND, "d2")
    world.run(block_account, "elsewhere", "blocked")
    world.run(admit, world.asking("r1", amount=5, budgets=(budget,), row="row", retry=True))
    world.run(admit, world.asking("r2", budgets=(budget,), row="row"))
    world.run(sent, "r1", "o")
    world.run(settle, "r1", "o", Settlement(5, levels={"b": {"rpm": Level(60, 5)}}, throttles=(Throttle("b", 1.0),)))
    keys, day = world.keys, world.now // SECOND // 86_400
    assert {name.decode() for name in world.client.keys(f"{world.keys.prefix}*")} == {
        keys.clock,
        keys.leases,
        keys.reservation("r1"),
        keys.reservation("r2"),
        keys.bucket("b"),
        keys.circuit("c"),
        keys.blocked_account("elsewhere"),
        keys.budget("w", "d1"),
        keys.ledger(day),
    }


@pytest.mark.parametrize("name", ["", "a{b", "a}b", "a b", "a\nb"])
def test_a_namespace_that_would_break_the_hash_tag_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="namespace"):
        Keys(name)
