"""Quotas, budgets and circuits as the scripts are told of them, in JSON.

What many calls say alike comes as a text within that JSON, which a script reads once for all of them.
"""

from functools import lru_cache
from typing import Any

import orjson

from limits.bucket import Quota
from limits.budget import BudgetWindow
from limits.circuit import CircuitSettings


@lru_cache(maxsize=4096)
def quota_json(quota: Quota) -> orjson.Fragment:
    burst = 0 if quota.burst == "auto" else quota.burst
    headroom = 0 if quota.headroom == "auto" else quota.headroom
    body: dict[str, Any] = {"limits": quota.limits, "burst": burst, "headroom": headroom}
    body |= {"concurrency": quota.concurrency or 0, "urgent_share": quota.urgent_share}
    return _text(body)


def _text(body: object) -> orjson.Fragment:
    """JSON as a string within JSON: what many calls say alike, a script reads once."""
    return orjson.Fragment(orjson.dumps(orjson.dumps(body).decode()))


@lru_cache(maxsize=64)
def circuit_json(settings: CircuitSettings) -> orjson.Fragment:
    return _text({name: getattr(settings, name) for name in settings.__dataclass_fields__})


@lru_cache(maxsize=1024)
def budgets_json(budgets: tuple[BudgetWindow, ...]) -> orjson.Fragment:
    return _text([budget_json(budget) for budget in budgets])


def budget_json(budget: BudgetWindow) -> dict[str, object]:
    return {
        "subject": budget.subject,
        "limit": budget.limit,
        "window": budget.window,
        "until": budget.until,
        "next_window": budget.next_window,
    }
