"""What a batch waits for, and the rows that Flower's pages show."""

from typing import Any

import pytest

from limits.snapshot import BucketState, BudgetState, CircuitState, DimensionState, Snapshot
from tasks.batches.batch import Batch
from tasks.monitoring.blocker_metrics import blockers
from tasks.monitoring.blockers import Blocker, lower_limits, of_batch
from tasks.monitoring.flower import workflow_rows
from tasks.monitoring.labels import Labels
from tasks.monitoring.snapshot import SystemSnapshot
from tasks.monitoring.throughput import Throughput
from workers.config.settings import Settings
from workers.transport.queues import Depth

NOW = 1_764_000_000
MICRO = 1_000_000


def batch(**given: Any) -> Batch:
    fields = {"id": "batch_1", "workflow": "nightly", "name": "in.jsonl", "status": "in_progress", "total": 100}
    return Batch(**{**fields, "bytes": 1, "storage": "", "created": NOW - 60.0, "began": NOW - 1.0, **given})  # type: ignore[arg-type]


def bucket(name: str = "acme/0/small", **given: Any) -> BucketState:
    fields: dict[str, Any] = {"dimensions": (), "in_flight": 0, "concurrency": 0, "paused_until": 0, "urgent": False}
    return BucketState(bucket=name, **{**fields, **given})


def dimension(available: float) -> DimensionState:
    return DimensionState("tpm", 60_000, 1_000.0, available, 10.0)


def circuit(state: str = "closed", **given: Any) -> CircuitState:
    fields: dict[str, Any] = {"until": 0, "by_hand": False, "calls": 0, "failures": 0, "retries_left": 1.0}
    return CircuitState("acme/small", state, **{**fields, **given})


def budget(spent: int, held: int = 0, subject: str = "workflow/nightly") -> BudgetState:
    return BudgetState(subject, "2025-11-24", 1_000_000_000, spent, held, (NOW + 3_600) * MICRO)


def system(**given: Any) -> SystemSnapshot:
    state: dict[str, Any] = {
        "now": NOW * MICRO,
        "buckets": (bucket(),),
        "circuits": (circuit(),),
        "blocked_accounts": {},
        "budgets": (),
        "open_reservations": 0,
    }
    limits = Snapshot(**{key: given.pop(key, value) for key, value in state.items()})
    fields: dict[str, Any] = {"batches": (batch(),), "queues": {}, "today": (), "accounts": ("acme/0",)}
    return SystemSnapshot(at=float(NOW), limits=limits, **{**fields, **given})


@pytest.mark.parametrize(
    ("given", "words", "stalled"),
    [
        ({}, "", False),
        ({"buckets": (bucket(dimensions=(dimension(5_000.0),)),)}, "", False),
        (
            {"buckets": (bucket(dimensions=(dimension(10.0),)),)},
            "60,000 tokens a minute at acme/small",
            False,
        ),
        # A second key has room.
        ({"buckets": (bucket(dimensions=(dimension(10.0),)), bucket("acme/1/small"))}, "", False),
        ({"buckets": (bucket(in_flight=8, concurrency=8),)}, "8 calls in flight at acme/small", False),
        (
            {"buckets": (bucket(paused_until=(NOW + 30) * MICRO),)},
            "acme/small answered 429: paused for 30 s",
            False,
        ),
        (
            {"buckets": (bucket(paused_until=(NOW + 600) * MICRO),)},
            "acme/small answered 429: paused for 600 s",
            True,
        ),
        ({"circuits": (circuit("open"),)}, "acme/small is failing: its circuit is open", True),
        ({"circuits": (circuit("open", by_hand=True),)}, "acme/small: its circuit was opened by hand", True),
        ({"blocked_accounts": {"acme/0": "invalid_api_key"}}, "the account acme is blocked: invalid_api_key", True),
        (
            {"blocked_accounts": {"acme/0/small": "permission_error"}},
            "the account acme is blocked: permission_error",
            True,
        ),
        ({"blocked_accounts": {"acme/0/other": "permission_error"}}, "", False),
        # Two keys that share one quota: the other one is not blocked.
        ({"blocked_accounts": {"acme/0": "invalid_api_key"}, "accounts": ("acme/0", "acme/1")}, "", False),
        (
            {"budgets": (budget(1_000_000_000),)},
            "the budget of nightly is spent until 2025-11-24 17:00 UTC: $1.00 of $1.00",
            True,
        ),
        # The rest pays for no call.
        (
            {"budgets": (budget(990_000_000),)},
            "the budget of nightly is spent until 2025-11-24 17:00 UTC: $0.99 of $1.00",
            True,
        ),
        ({"budgets": (budget(990_000_000, held=5_000_000),)}, "", False),
        ({"budgets": (budget(1_000_000_000, subject="workflow/other"),)}, "", False),
    ],
)
def test_what_a_batch_waits_for(given: dict[str, Any], words: str, stalled: bool) -> None:
    assert of_batch(system(**given), batch(), workers=2) == Blocker(words, stalled)


@pytest.mark.parametrize(
    ("given", "of", "words", "kind"),
    [
        ({"refuses": "OOM command not allowed"}, {}, "the Redis server, which refuses writes: OOM command", "redis"),
        ({"lead": 600.0}, {"began": NOW - 16.0}, "the Redis server's clock, which was set back by 600 s", "clock"),
        (
            {"queues": {"nightly": Depth(5, 3, 0)}, "workers": 0},
            {},
            "those that claimed 3 jobs have fallen silent",
            "no_worker",
        ),
        ({}, {"told": "a worker with its configuration", "told_at": NOW - 20.0}, "a worker with its", "configuration"),
        ({}, {"began": NOW - 16.0}, "a worker that puts its lines into the queue", "feed"),
        ({}, {"began": NOW - 16.0, "short_since": NOW - 5.0}, "lost messages", "lost"),
        ({"queues": {"nightly": Depth(7, 0, 0)}}, {"began": NOW - 16.0}, "none of its 7 ready jobs", "unclaimed"),
        (
            {"queues": {"nightly": Depth(0, 0, 9)}},
            {"began": NOW - 16.0},
            "its delayed jobs: 9 are tried again later",
            "delayed",
        ),
        ({"queues": {"nightly": Depth(0, 9, 0)}}, {"began": NOW - 16.0}, "", ""),
        ({}, {"began": NOW - 900.0, "pace": f"[[{NOW - 20},0],[{NOW - 5},9]]", "completed": 9}, "", ""),
        (
            {},
            {"pace": f"[[{NOW - 20},9],[{NOW - 5},9]]", "completed": 9},
            "a worker that puts its lines into the queue",
            "feed",
        ),
        ({}, {"feed_trouble": "its lines of 16,000,000 bytes don't fit"}, "its lines of 16,000,000 bytes", "files"),
    ],
)
def test_every_stalled_batch_has_a_blocker(given: dict[str, Any], of: dict[str, Any], words: str, kind: str) -> None:
    workers = given.pop("workers", 2)
    found = of_batch(system(**given), batch(**of), workers)
    assert words in found.words
    assert (found.kind, found.stalled) == (kind, bool(kind) and kind != "delayed")


def test_blockers_are_metrics() -> None:
    queues = {"nightly": Depth(1, 0, 0), "single": Depth(2, 0, 0), "empty": Depth(0, 0, 0)}
    found = system(budgets=(budget(1_000_000_000, subject="all"),), queues=queues, workers=3, lead=2.0)
    samples = [
        (sample.name, tuple(sample.labels.values()), sample.value)
        for family in blockers(found, Labels())
        for sample in family.samples
    ]
    assert samples == [
        ("overnight_held_up", ("nightly", "batch_1", "budget"), 1),
        ("overnight_held_up", ("single", "", "budget"), 1),
        ("overnight_workers", (), 3),
        ("overnight_clock_lead_seconds", (), 2.0),
    ]


def test_a_batch_waits_for_a_worker_if_none_runs() -> None:
    assert of_batch(system(), batch(), workers=0) == Blocker("a worker: none is running", stalled=True)
    assert of_batch(system(), batch(), workers=None) == Blocker()


def test_a_batch_that_is_over_waits_for_nothing() -> None:
    done = batch(status="completed", completed=100, ended=float(NOW))
    found = system(batches=(done,), reasons={"nightly": "requests a minute at acme/small"})
    (row,) = workflow_rows.batch_rows(found, workers=0)
    assert (row.waits, row.eta, row.rate) == (Blocker(), "took 1 min 00 s", "100")


def test_a_workflow_sums_its_batches() -> None:
    found = system(
        batches=(batch(completed=40), batch(id="batch_2", failed=10)),
        queues={"nightly": Depth(5, 3, 2)},
        rates={"batch_1": 2.0, "batch_2": 1.0},
    )
    row = workflow_rows.workflow_rows(found, Settings(), workers=1)[0]
    assert (row.name, row.depth.total, row.batches, row.rate, row.eta) == ("nightly", 10, 2, "180", "50 s")


def test_throughput_covers_the_last_minute() -> None:
    jobs = Throughput()
    jobs.record("a", 0, 1_000.0)
    assert jobs.per_second("a") is None
    for second in range(1, 121):
        jobs.record("a", second * 10 if second <= 60 else 600, 1_000.0 + second)
    assert jobs.per_second("a") == 0
    jobs.record("a", 3, 1_200.0)  # it started over
    assert jobs.per_second("a") is None


@pytest.mark.parametrize(
    ("limit", "configured", "words"),
    [
        (60, 6_000, ["acme/small: its answers state 60 requests a minute; 6,000 are configured"]),
        (6_000, 6_000, []),
        (60, 0, []),
    ],
)
def test_a_limit_below_the_configured_one_is_reported(limit: int, configured: int, words: list[str]) -> None:
    state = DimensionState("rpm", limit, 1.0, 1.0, 1.0, configured)
    found = system(buckets=(bucket(dimensions=(state,)),))
    assert lower_limits(found, batch(models="acme/small")) == words
    assert lower_limits(found, batch(models="acme/other")) == []


def test_a_batch_shows_what_the_checks_have_found() -> None:
    one = batch(checks='{"invalid":3,"failed_invalid":1,"again":9,"fixed":5}', again_cost=250_000_000)
    (row,) = workflow_rows.batch_rows(system(batches=(one,)), 1)
    assert row.checks == "4 invalid, 5 of 9 fixed by further answers for $0.25"
