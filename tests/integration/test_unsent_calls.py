"""What a call costs that never left: nothing, of money or of quota, however its job ends."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from celery.exceptions import SoftTimeLimitExceeded

from tasks.jobs import retry
from tasks.jobs.bucket_calls import FIRST
from tests.simulator import Simulator
from tests.support.delivery import Desk
from tests.support.site import KEY, job, wait_for
from tests.support.toml import PRICES, provider
from tests.support.unreachable import unreachable


@contextmanager
def desk_for(folder: Path, valkey: str, base_url: str, timeout: float) -> Iterator[Desk]:
    """A desk whose only provider is at this address, under a hard budget."""
    models = {"small": f"{PRICES}tpd = 100_000\nheadroom = 1.0"}
    acme = provider(base_url, more=f'counting = "plain"\ntimeout = {timeout}', models=models)
    with Desk(folder, valkey, f"{acme}[workflows.nightly]\nbudget_usd = 1.0\nmax_attempts = 2\n") as desk:
        yield desk


@pytest.fixture(autouse=True)
def key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ACME_KEY", KEY)
    monkeypatch.setattr(retry, "BACKOFF", 0.05)


def money(desk: Desk) -> tuple[int, int, int]:
    """What is presumed, held and spent, in n$."""
    (budget,) = desk.snapshot().budgets
    return desk.spent().presumed_cost, budget.held, budget.spent


def tokens_left(desk: Desk) -> int:
    (bucket,) = desk.snapshot().buckets
    (tokens,) = [each for each in bucket.dimensions if each.name == "tpd"]
    return round(tokens.available)


@pytest.mark.parametrize("kind", ["backlog", "dns"])
def test_a_provider_that_cannot_be_reached_costs_nothing(
    tmp_path: Path, valkey: str, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    with unreachable(kind, monkeypatch) as base_url, desk_for(tmp_path, valkey, base_url, 0.2) as desk:
        delivery = desk.deliver(job(1, max_tokens=20_000))
        assert delivery.state.attempts >= 1
        assert delivery.line is None or delivery.line["overnight"]["cost_usd"] == 0
        assert money(desk) == (0, 0, 0)
        assert desk.spent().failed_calls == desk.spent().calls >= 1
        assert tokens_left(desk) > 95_000, "what was reserved for a call that never left is still gone"


@pytest.mark.parametrize("breaks", [asyncio.CancelledError, SoftTimeLimitExceeded])
@pytest.mark.parametrize("written", [False, True])
def test_a_broken_off_call_costs_only_if_written(
    tmp_path: Path,
    valkey: str,
    monkeypatch: pytest.MonkeyPatch,
    breaks: type[BaseException],
    written: bool,
) -> None:
    with (
        Simulator({"latency": 30.0}) as simulator,
        unreachable("backlog", monkeypatch) as nowhere,
        desk_for(tmp_path, valkey, simulator.base_url if written else nowhere, 60.0) as desk,
    ):

        async def test() -> None:
            begun, broken_off = asyncio.Event(), asyncio.Event()
            call = desk.runtime.provider("acme").call

            async def breaking_call(*args: object, **options: object) -> object:
                """The real call, broken off as Celery does it: by an exception in the task's own wait."""
                calling = asyncio.create_task(call(*args, **options))  # type: ignore[arg-type]
                begun.set()
                await broken_off.wait()
                calling.cancel()
                await asyncio.gather(calling, return_exceptions=True)
                raise breaks

            monkeypatch.setattr(desk.runtime.provider("acme"), "call", breaking_call)
            desk.open_gates()
            running = asyncio.create_task(desk.delivery(job(1, max_tokens=20_000)))
            await begun.wait()
            if written:
                await asyncio.to_thread(wait_for, lambda: simulator.stats()["in_flight"])
            broken_off.set()
            await asyncio.wait([running])

        desk.wait(test())
        presumed, held, spent = money(desk)
        assert held == 0
        assert (presumed > 0, spent > 0) == (written, written)


def test_calls_that_wait_for_their_connections_do_not_hold_up_others(
    tmp_path: Path, valkey: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with (
        unreachable("backlog", monkeypatch) as nowhere,
        desk_for(tmp_path, valkey, nowhere, 60.0) as desk,
    ):

        async def test() -> None:
            calls = desk.runtime.waitlists.calls("acme/0/small")
            desk.open_gates()
            jobs = [asyncio.create_task(desk.delivery(job(number))) for number in range(FIRST)]
            await asyncio.to_thread(wait_for, lambda: calls.room() == 0)
            await asyncio.to_thread(wait_for, lambda: calls.room() == FIRST, 5)
            assert not any(each.done() for each in jobs)
            for each in jobs:
                each.cancel()
            await asyncio.gather(*jobs, return_exceptions=True)

        desk.wait(test())
