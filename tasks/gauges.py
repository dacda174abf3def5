"""What `overnight limits` shows: every quota, circuit, latch and budget of the configuration, as of one moment."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from limits.bucket import Quota
from limits.budget import BudgetWindow
from limits.overview import BucketState, BudgetState, CircuitState, Snapshot, snapshot
from tasks.batch import LIVE
from tasks.store import Store
from workers import budgets
from workers.budgets import NANO
from workers.settings import Settings

_MICRO = 1_000_000


@dataclass(frozen=True, slots=True)
class Gauges:
    """Everything at `now`, µs of the server's clock."""

    now: int
    buckets: tuple[BucketState, ...]
    circuits: tuple[CircuitState, ...]
    latches: dict[str, str]
    budgets: tuple[BudgetState, ...]
    open_reservations: int

    def shown(self) -> dict[str, Any]:
        """As `overnight limits --json` prints it. Times in seconds since the epoch."""
        return {
            "at": self.now / _MICRO,
            "reservations": self.open_reservations,
            "quotas": [_quota(bucket, self.now) for bucket in self.buckets],
            "circuits": [_circuit(circuit) for circuit in self.circuits],
            "latches": [{"account": account, "reason": reason} for account, reason in self.latches.items()],
            "budgets": [_budget(budget) for budget in self.budgets],
        }


def read(settings: Settings, store: Store, now: float) -> Gauges:
    """One look at everything, in one step of the server. `now` in seconds since the epoch tells the windows."""
    found: Snapshot = store.server.run(
        snapshot(
            store.keys,
            list(_buckets(settings)),
            [f"{name}/{model}" for name, model in targets(settings)],
            list(accounts(settings)),
            list(_windows(settings, store, now)),
        )
    )
    return Gauges(found.now, found.buckets, found.circuits, found.latches, found.budgets, found.open_reservations)


def targets(settings: Settings) -> list[tuple[str, str]]:
    """(provider, model) of every target that the configuration names."""
    listed = [(name, model) for name, provider in settings.providers.items() for model in provider.models]
    mixed = [(target.provider, target.model) for model in settings.models.values() for target in model.targets]
    return list(dict.fromkeys([*listed, *mixed]))


def accounts(settings: Settings) -> Iterator[str]:
    """Every account: a provider's key, counted from 0."""
    for name in settings.providers:
        yield from accounts_of(settings, name)


def accounts_of(settings: Settings, provider: str) -> list[str]:
    """The accounts of one provider."""
    return [f"{provider}/{key}" for key in range(max(1, settings.providers[provider].key_count))]


def _buckets(settings: Settings) -> Iterator[tuple[str, Quota]]:
    for name, provider in settings.providers.items():
        quotas = 1 if provider.shared_quota else max(1, provider.key_count)
        account = provider.quota()
        for key in range(quotas):
            if account is not None:
                yield f"{name}/{key}", account
            for of, model in targets(settings):
                if of == name:
                    yield f"{name}/{key}/{model}", settings.model(name, model).quota()


def _windows(settings: Settings, store: Store, now: float) -> Iterator[BudgetWindow]:
    if settings.budget_nano is not None:
        yield budgets.window("all", settings.budget_nano, settings.budget_window, "UTC", None, now)
    for name, workflow in settings.workflows.items():
        if workflow.budget_nano is None:
            continue
        of: list[str | None] = [None]
        if workflow.budget_window == "batch":
            of = [batch.id for batch in store.batches() if batch.workflow == name and batch.status in LIVE]
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
            }
            for each in bucket.dimensions
        },
        "in_flight": bucket.in_flight,
        "concurrency": bucket.concurrency or None,
        "paused_until": bucket.paused_until / _MICRO if bucket.paused_until > now else None,
        "urgent": bucket.urgent,
    }


def _circuit(circuit: CircuitState) -> dict[str, Any]:
    return {
        "target": circuit.circuit,
        "state": circuit.state,
        "by_hand": circuit.by_hand,
        "until": circuit.until / _MICRO if circuit.state == "open" and not circuit.by_hand else None,
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
        "resets_at": budget.resets / _MICRO if budget.resets else None,
    }
