"""Quotas of accounts, and what shares them: keys, models, urgent work and retries."""

import asyncio
from pathlib import Path

import pytest

from limits.circuit import CircuitSettings
from limits.snapshot import BucketState
from tasks.jobs import planning
from tests.simulator import Simulator
from tests.support import priced
from tests.support.delivery import Desk
from tests.support.priced import MICRO, acme
from tests.support.site import job

clean = priced.clean


def test_each_key_has_a_quota_and_one_may_be_blocked(tmp_path: Path, valkey: str, simulator: Simulator) -> None:
    toml = acme(simulator, model="rpm = 180\nburst = 0.34").replace(
        'api_key = "env:ACME_KEY"', 'api_key = ["env:ACME_KEY", "env:ACME_KEY_2"]'
    )
    with Desk(tmp_path, valkey, toml) as desk:
        # Three a second for each key: two leave at once, the third waits.
        assert all(each.answered for each in desk.all(*(job(number) for number in range(1, 4))))
        journal = simulator.journal()
        assert {entry["key"] for entry in journal[:2]} == {0, 1}
        assert journal[1]["at"] - journal[0]["at"] < 0.15 < journal[2]["at"] - journal[1]["at"]
        simulator.configure(failures=[{"mode": "insufficient_quota", "key": 0}])
        deliveries = desk.all(*(job(number) for number in range(4, 8)))
        assert all(each.answered for each in deliveries)
        assert all(each.state.attempts == 0 for each in deliveries)
        assert len(desk.snapshot().blocked_accounts) == 1


def test_an_accounts_quota_is_shared_by_its_models(tmp_path: Path, valkey: str, simulator: Simulator) -> None:
    with Desk(tmp_path, valkey, acme(simulator, more="rpm = 30\nburst = 1")) as desk:
        assert desk.deliver(job(1)).answered
        assert desk.deliver(job(2, model="tiny")).answered
        first, second = simulator.journal()
        assert second["at"] - first["at"] > 0.7


def test_an_accounts_quota_learns_as_a_models_does(tmp_path: Path, valkey: str, simulator: Simulator) -> None:
    """If only the account has limits, the same limits in headers, and 429s, apply to its bucket."""
    simulator.configure(models={"*": {"rpm": 1_200, "counting": "per-second"}})

    def bucket(name: str) -> BucketState:
        return next(each for each in desk.snapshot().buckets if each.bucket == name)

    with Desk(tmp_path, valkey, acme(simulator, more="rpm = 1_200")) as desk:
        assert desk.deliver(job(1)).answered
        account = bucket("acme/0")
        (dimension,) = account.dimensions
        assert dimension.rate == 20.0, "headers have told of a second's share, and all of it is used"
        assert account.paused_until == 0
        simulator.configure(failures=[{"mode": "429", "times": 1, "retry_after": "60"}])
        began = desk.now()
        waits = desk.deliver(job(2))
        ended = desk.now()
        assert waits.snooze is not None
        assert waits.snooze.seconds >= 0.75 * (60 - (ended - began)), "the wait, or a check a quarter sooner"
        account = bucket("acme/0")
        assert account.dimensions[0].rate == pytest.approx(19.4), "after a 429 it is careful"
        # The wait may be the one model's, so the account pauses for a short time only. The 429 came between `began` and
        # `ended`, and a machine that stands still may outlast the pause.
        for name, seconds in (("acme/0", 5), ("acme/0/small", 60)):
            until = bucket(name).paused_until / MICRO
            assert began + seconds <= until <= ended + seconds or (until == 0 and desk.now() >= began + seconds)


def test_headers_of_another_limit_than_the_accounts_are_a_models(
    tmp_path: Path, valkey: str, simulator: Simulator
) -> None:
    simulator.configure(models={"*": {"rpm": 600, "counting": "per-second"}})
    with Desk(tmp_path, valkey, acme(simulator, more="rpm = 1_200")) as desk:
        assert desk.deliver(job(1)).answered
        bucket = next(each for each in desk.snapshot().buckets if each.bucket == "acme/0")
        assert bucket.dimensions[0].rate == pytest.approx(19.4)


def test_urgent_work_goes_before_what_waits(tmp_path: Path, valkey: str, simulator: Simulator) -> None:
    toml = acme(simulator, model="rpm = 120\nburst = 1", tables='[workflows.now]\npriority = "urgent"\n')
    with Desk(tmp_path, valkey, toml) as desk:
        simulator.configure(latency=0.01)

        async def run() -> list[str]:
            batch = [desk.loop.create_task(desk.delivery(job(number))) for number in range(1, 7)]
            async with asyncio.timeout(20):
                while len(simulator.journal()) < 2:  # noqa: ASYNC110 - what is waited for is in another process
                    await asyncio.sleep(0.02)
            await desk.delivery(job(99), workflow="now")
            order = [entry["job"] for entry in simulator.journal()]
            for each in batch:
                await each
            return order

        order = desk.wait(run())
        assert "the number 99" in order[-1]
        assert len(order) <= 4, f"it waited behind {len(order) - 1} of 6"


def test_the_retry_budget_is_shared(
    tmp_path: Path, valkey: str, simulator: Simulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A provider that fails every call gets each job once, and of the second attempts only what is saved."""
    few = CircuitSettings(volume=1_000, most_retries=3.0, retries_per_call=0.01, retries_per_second=0.01)
    monkeypatch.setattr(planning, "CIRCUIT", few)
    monkeypatch.setattr("tasks.jobs.retry.BACKOFF", 0.01)
    simulator.configure(failures=[{"mode": "500"}])
    with Desk(tmp_path, valkey, acme(simulator)) as desk:
        deliveries = desk.all(*(job(number) for number in range(1, 11)))
        assert len(simulator.journal()) == 10 + 3
        assert all(each.snooze is not None for each in deliveries)
        assert {each.snooze.reason for each in deliveries if each.snooze} == {"too many retries at acme/small already"}
