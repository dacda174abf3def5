"""A snapshot of the limits: every quota, circuit, blocked account and budget, as `overnight limits` shows them.

Targets are those of the configuration, and others that jobs have named as `provider/model`.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any, Final

from limits.bucket import Quota
from limits.budget import NANO, BudgetWindow
from limits.encoding import SECOND
from limits.snapshot import BucketState, BudgetState, CircuitState, Snapshot, snapshot
from tasks.batches.batch import Batch
from tasks.batches.store import Store
from tasks.monitoring.costs import entries
from workers.config.settings import Settings
from workers.models import budgets

_DAY: Final = 86_400

#: Targets that are shown although the configuration does not list them: the most called of today and yesterday.
MOST_UNLISTED: Final = 100

#: The end of the name of the single jobs' budget, if each batch has its own. It is shown once they spent something.
_SINGLE: Final = f"/{budgets.SINGLE}"

Target = tuple[str, str]
"""Provider and model."""


def blocked(limits: Snapshot, account: str, model: str) -> str:
    """Why an account takes no calls of a model; '' if it does."""
    return limits.blocked_accounts.get(account) or limits.blocked_accounts.get(f"{account}/{model}") or ""


def shown(limits: Snapshot) -> dict[str, Any]:
    """The JSON of `overnight limits --json`. Times in seconds since the epoch."""
    return {
        "at": limits.now / SECOND,
        "clock_ahead_seconds": limits.ahead / SECOND,
        "reservations": limits.open_reservations,
        "quotas": [_quota(bucket, limits.now) for bucket in limits.buckets],
        "circuits": [_circuit(circuit) for circuit in limits.circuits],
        "latches": [{"account": account, "reason": reason} for account, reason in limits.blocked_accounts.items()],
        "budgets": [_budget(budget) for budget in limits.budgets],
    }


def read(settings: Settings, store: Store, now: float, live: Sequence[Batch] | None = None) -> Snapshot:
    """Read all limits in one step of the server, once the targets are known.

    `now` (seconds since the epoch) selects the budgets' windows. `live`: the batches that are not over, read here if
    None.
    """
    live = store.live() if live is None else live
    every = targets(settings) + unlisted(settings, store, now, live)
    keys = tuple(accounts(settings))
    found: Snapshot = store.server.run(
        snapshot(
            store.keys,
            list(_buckets(settings, every)),
            [f"{name}/{model}" for name, model in every],
            [*keys, *scopes(keys, every)],
            list(_windows(settings, live, now)),
        )
    )
    return replace(found, budgets=tuple(each for each in found.budgets if _is_used(each)))


def _is_used(state: BudgetState) -> bool:
    """Whether to show a budget: that of single jobs is hidden until it has spent or held something."""
    return bool(state.spent or state.held or not state.subject.endswith(_SINGLE))


def unlisted(settings: Settings, store: Store, now: float, live: Iterable[Batch]) -> list[Target]:
    """Other targets of configured providers, by name: called today or yesterday (UTC), or named by a `live` batch.

    At most `MOST_UNLISTED`, the most called ones.
    """
    today = int(now // _DAY)
    calls: Counter[Target] = Counter()
    for entry in entries(store.server, store.keys, [today - 1, today]):
        calls[entry.provider, entry.model] += entry.spent.calls
    for batch in live:
        for name in batch.targets:
            provider, _, model = name.partition("/")
            calls[provider, model] += 1
    known = set(targets(settings))
    found = [each for each, _ in calls.most_common() if each[0] in settings.providers and each[1] and each not in known]
    return sorted(found[:MOST_UNLISTED])


def targets(settings: Settings) -> list[Target]:
    """Every target that the configuration names."""
    listed = [(name, model) for name, provider in settings.providers.items() for model in provider.models]
    mixed = [(target.provider, target.model) for model in settings.models.values() for target in model.targets]
    return list(dict.fromkeys([*listed, *mixed]))


def accounts(settings: Settings) -> Iterator[str]:
    """Every account, as `provider/key` with keys counted from 0."""
    for name in settings.providers:
        yield from accounts_of(settings, name)


def accounts_of(settings: Settings, provider: str) -> list[str]:
    """The accounts of `provider`."""
    return [f"{provider}/{key}" for key in range(max(1, settings.providers[provider].key_count))]


def scopes(accounts: Iterable[str], every: Iterable[Target]) -> list[str]:
    """Every model of every account: each may be blocked on its own."""
    models = list(every)
    return [f"{account}/{model}" for account in accounts for name, model in models if account.startswith(f"{name}/")]


def _buckets(settings: Settings, every: Sequence[Target]) -> Iterator[tuple[str, Quota]]:
    for name, provider in settings.providers.items():
        quotas = 1 if provider.shared_quota else max(1, provider.key_count)
        account = provider.quota()
        for key in range(quotas):
            if account is not None:
                yield f"{name}/{key}", account
            for of, model in every:
                if of == name:
                    yield f"{name}/{key}/{model}", settings.model(name, model).quota()


def _windows(settings: Settings, live: Iterable[Batch], now: float) -> Iterator[BudgetWindow]:
    if settings.budget_nano is not None:
        yield budgets.window("all", settings.budget_nano, settings.budget_window, "UTC", None, now)
    for name, workflow in settings.workflows.items():
        if workflow.budget_nano is None:
            continue
        of: list[str | None] = [None]
        if workflow.budget_window == "batch":
            of += [batch.id for batch in live if batch.workflow == name]
        for batch in of:
            yield budgets.window(
                f"workflow/{name}", workflow.budget_nano, workflow.budget_window, workflow.timezone, batch, now
            )


def _quota(bucket: BucketState, now: int) -> dict[str, Any]:
    return {
        "quota": bucket.bucket,
        "dimensions": {
            each.name: {
                "limit": each.limit,
                "rate_per_second": each.rate,
                "available": each.available,
                "burst_seconds": each.burst,
                "configured": each.configured or None,
            }
            for each in bucket.dimensions
        },
        "in_flight": bucket.in_flight,
        "concurrency": bucket.concurrency or None,
        "paused_until": bucket.paused_until / SECOND if bucket.paused_until > now else None,
        "urgent": bucket.urgent,
    }


def _circuit(circuit: CircuitState) -> dict[str, Any]:
    return {
        "target": circuit.circuit,
        "state": circuit.state,
        "by_hand": circuit.by_hand,
        "until": circuit.until / SECOND if circuit.state == "open" and not circuit.by_hand else None,
        "calls": circuit.calls,
        "failures": circuit.failures,
        "retries_left": circuit.retries_left if circuit.retries_left >= 0 else None,
    }


def _budget(budget: BudgetState) -> dict[str, Any]:
    return {
        "budget": budget.subject,
        "window": budget.window,
        "limit_usd": budget.limit / NANO,
        "spent_usd": budget.spent / NANO,
        "held_usd": budget.held / NANO,
        "left_usd": (budget.limit - budget.spent - budget.held) / NANO,
        "resets_at": budget.resets / SECOND if budget.resets else None,
    }
