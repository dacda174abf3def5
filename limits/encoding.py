"""Asks, settlements and settings as JSON for the scripts, and the call of a script with it.

Many calls share a quota, a circuit's settings or a list of budgets. Those are sent as a string inside the JSON, so a
script that decides on many calls parses each distinct string once.
"""

import random
from functools import lru_cache
from typing import Any, Final

import orjson

from limits.bucket import Quota
from limits.budget import BudgetWindow
from limits.circuit import CircuitSettings
from limits.client.compact_json import dumps
from limits.client.scripts import Call, load
from limits.keys import Keys
from limits.reservation import Ask, Level, Settlement, Throttle

SECOND: Final = 1_000_000
"""Scripts count time in µs."""


def micros(seconds: float) -> int:
    """Seconds as whole µs."""
    return round(seconds * SECOND)


def call(keys: Keys, name: str, body: object, parse: Any, now: int | None = None, *, joins: bool = False) -> Call[Any]:
    """A call of `limits/lua/<name>.lua` with one JSON argument. `now` in µs; None or 0 for the server's clock."""
    return Call(load(f"limits/lua/{name}.lua"), (keys.clock,), (now or 0, dumps(body)), parse, joins)


def ask_json(ask: Ask) -> dict[str, object]:
    """An ask as `admit.lua` takes it: times in µs, amounts in n$."""
    return {
        "id": ask.id,
        "owner": ask.owner,
        "candidates": [
            {
                "circuit": candidate.circuit,
                "account": candidate.account,
                "scope": candidate.scope,
                "amount": candidate.amount,
                "row": candidate.row,
                "not_before": micros(candidate.not_before),
                "fallback": candidate.fallback,
                "charges": [
                    {"bucket": charge.bucket, "quota": quota_json(charge.quota), "costs": charge.costs}
                    for charge in candidate.charges
                ],
            }
            for candidate in ask.candidates
        ],
        "budgets": budgets_json(ask.budgets),
        "max_wait": micros(ask.max_wait),
        "lease": micros(ask.lease),
        "retry": ask.retry,
        "urgent": ask.urgent,
        "send_at_once": ask.send_at_once,
        "for_waitlist": ask.for_waitlist,
        "circuit": circuit_json(ask.circuit),
        "jitter": random.random(),
    }


def settlement_json(
    reservation_id: str, owner: str, settlement: Settlement, part: tuple[int, int] | None = None
) -> bytes:
    """A settlement as `lib/settle.lua` takes it. Scripts of other packages pass it on.

    `part`: it settles one call of a chunk: the call's place in the chunk, and the n$ that it holds.
    """
    body: dict[str, object] = {} if part is None else {"part": {"place": part[0], "held": part[1]}}
    return dumps(
        body
        | {
            "id": reservation_id,
            "owner": owner,
            "amount": settlement.amount,
            "costs": settlement.costs if settlement.costs is not None else False,
            "outcome": settlement.outcome,
            "failed": settlement.failed,
            "presumed": settlement.presumed,
            "columns": settlement.columns,
            "levels": {
                bucket: {name: level_json(level) for name, level in levels.items()}
                for bucket, levels in settlement.levels.items()
            },
            "throttles": [throttle_json(throttle) for throttle in settlement.throttles],
            "circuit": circuit_json(settlement.circuit),
            "jitter": random.random(),
        }
    )


def level_json(level: Level) -> list[int]:
    """[limit, remaining, reset in µs]; -1 for what was not reported, because Lua's JSON drops null."""
    return [
        -1 if level.limit is None else level.limit,
        -1 if level.remaining is None else level.remaining,
        -1 if level.reset is None else micros(level.reset),
    ]


def throttle_json(throttle: Throttle) -> dict[str, object]:
    """A 429 as `lib/provider.lua` takes it; the waits in µs."""
    wait = -1 if throttle.retry_after is None else micros(throttle.retry_after)
    return {
        "bucket": throttle.bucket,
        "retry_after": wait,
        "dimension": throttle.dimension,
        "overload": throttle.overload,
        "limited": throttle.limited,
        "longest": micros(throttle.longest or 0.0),
    }


@lru_cache(maxsize=4096)
def quota_json(quota: Quota) -> orjson.Fragment:
    burst = 0 if quota.burst == "auto" else quota.burst
    headroom = 0 if quota.headroom == "auto" else quota.headroom
    body: dict[str, Any] = {"limits": quota.limits, "burst": burst, "headroom": headroom}
    body |= {"concurrency": quota.concurrency or 0, "urgent_share": quota.urgent_share}
    return _shared_text(body)


@lru_cache(maxsize=64)
def circuit_json(settings: CircuitSettings) -> orjson.Fragment:
    return _shared_text({name: getattr(settings, name) for name in settings.__dataclass_fields__})


@lru_cache(maxsize=1024)
def budgets_json(budgets: tuple[BudgetWindow, ...]) -> orjson.Fragment:
    return _shared_text([budget_json(budget) for budget in budgets])


def budget_json(budget: BudgetWindow) -> dict[str, object]:
    return {
        "subject": budget.subject,
        "limit": budget.limit,
        "window": budget.window,
        "until": budget.until,
        "next_window": budget.next_window,
    }


def _shared_text(body: object) -> orjson.Fragment:
    """JSON as a string within JSON."""
    return orjson.Fragment(orjson.dumps(orjson.dumps(body).decode()))
