"""What each refusal and each failure does to the job, the bucket, the circuit and the account: a table, on real parts.

Every row is a job that meets one failure of a real HTTP provider, run by the worker's own code over a real server.
"""

import asyncio
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from limits.feedback import unblock_account
from limits.reservation import Throttle
from tasks.jobs import admission, attempt, calling, planning
from tasks.jobs.state import EARLY
from tests.simulator import Simulator
from tests.support import impatient
from tests.support.delivery import Delivery, Desk
from tests.support.impatient import quick
from tests.support.provider_feedback import throttled
from tests.support.site import job, wait_for
from tests.support.valkey import own_valkey

short_backoff = impatient.short_backoff
desk = impatient.desk


@pytest.mark.parametrize("paused", [False, True])
def test_a_call_held_up_after_admission_asks_once_more(
    desk: Desk, simulator: Simulator, monkeypatch: pytest.MonkeyPatch, paused: bool
) -> None:
    """Another worker meets a 429 while this one is too busy to write a request that may leave."""
    provider = desk.runtime.provider("acme")
    call = provider.call

    async def held_up(*args: Any, **options: Any) -> Any:
        if paused:
            desk.run(throttled(desk.keys, Throttle("acme/0/small", 30.0)))
        time.sleep(1.5 * calling.HELD_UP)  # noqa: ASYNC251 - the worker is busy
        return await call(*args, **options)

    monkeypatch.setattr(provider, "call", held_up)
    delivery = desk.deliver(job(1))
    assert (delivery.snooze is not None, delivery.answered, len(simulator.journal())) == (
        paused,
        not paused,
        not paused,
    )
    bucket, *_ = desk.snapshot().buckets
    assert bucket.in_flight == 0
    assert delivery.state.calls == (0 if paused else 1)


@dataclass(frozen=True, slots=True)
class Row:
    """A failure, and what must follow from it.

    `job`: again (another attempt brought the answer), waits (snoozed), or the error code that it failed with.
    `attempts` is what it spent; `pause` the seconds for which everybody's calls of the model stop; `circuit` (calls,
    failures) that were counted for its first call; `latch` whether the account is blocked; `presumed` whether money
    counts as spent though no bill was seen.
    """

    mode: str
    job: str
    attempts: int = 0
    retry_after: str | None = None
    pause: float = 0.0
    circuit: tuple[int, int] = (0, 0)
    latch: bool = False
    presumed: bool = False

    def __str__(self) -> str:
        return self.mode + (f"+{self.retry_after}" if self.retry_after else "")


TABLE = [
    Row("429", "waits", retry_after="60", pause=60),
    Row("429", "waits", retry_after="7200", pause=7200),
    Row("insufficient_quota", "waits", latch=True),
    # One job's word blocks no account.
    Row("spend_cap", "again", attempts=1),
    Row("401", "again", attempts=1),
    Row("402", "again", attempts=1),
    Row("403", "again", attempts=1),
    Row("503", "again", attempts=1, circuit=(1, 1)),
    Row("503", "waits", attempts=1, retry_after="30", pause=30, circuit=(1, 1)),
    Row("529", "again", attempts=1, circuit=(1, 1)),
    Row("529", "waits", attempts=1, retry_after="30", pause=30, circuit=(1, 1)),
    Row("500", "again", attempts=1, circuit=(1, 1)),
    Row("502", "again", attempts=1, circuit=(1, 1), presumed=True),
    Row("504", "again", attempts=1, circuit=(1, 1), presumed=True),
    Row("hang", "again", attempts=1, circuit=(1, 1), presumed=True),
    Row("reset", "again", attempts=1, circuit=(1, 1), presumed=True),
    Row("half", "again", attempts=1, circuit=(1, 1), presumed=True),
    Row("garbage", "again", attempts=1, circuit=(1, 1), presumed=True),
    Row("html", "again", attempts=1, circuit=(1, 1), presumed=True),
    Row("empty", "again", attempts=1, circuit=(1, 1), presumed=True),
    Row("error_in_200", "again", attempts=1, circuit=(1, 1), presumed=True),
    Row("408", "again", attempts=1),
    Row("409", "again", attempts=1),
    Row("too_large", "rate_limit_exceeded", attempts=1, circuit=(1, 0)),
    Row("400", "invalid_request_error", attempts=1, circuit=(1, 0)),
    Row("404", "model_not_found", attempts=1, circuit=(1, 0)),
    Row("422", "invalid_request_error", attempts=1, circuit=(1, 0)),
]


@pytest.mark.parametrize("row", TABLE, ids=str)
def test_a_failure_and_what_follows(desk: Desk, simulator: Simulator, row: Row) -> None:
    simulator.configure(failures=[{"mode": row.mode, "times": 1, "retry_after": row.retry_after, "seconds": 2.0}])
    began = desk.now()
    delivery = desk.deliver(job(1))
    after = desk.snapshot()

    # The job.
    if row.job == "again":
        assert delivery.answered
        assert delivery.line is not None
        assert delivery.line["overnight"]["attempts"] == row.attempts + 1
    elif row.job == "waits":
        assert delivery.snooze is not None
        assert delivery.snooze.seconds >= min(row.pause, 0.75 * admission.PAUSE_CHECK) - attempt.MAX_AHEAD
    else:
        assert delivery.failure == row.job
    assert delivery.state.attempts == row.attempts
    answers = 1 if row.job == "again" else 0
    assert len(simulator.journal()) == 1 + answers

    # The bucket.
    (bucket,) = after.buckets
    assert bucket.in_flight == 0
    pause = bucket.paused_until / 1e6 - began if bucket.paused_until else 0.0
    assert pause == pytest.approx(row.pause, abs=1.0)

    # The circuit, which counted the answer of the second attempt, too.
    (circuit,) = after.circuits
    assert (circuit.calls, circuit.failures) == (row.circuit[0] + answers, row.circuit[1])

    # The account.
    assert bool(after.blocked_accounts) == row.latch
    if row.latch:
        assert "overnight limits --clear acme" in after.blocked_accounts["acme/0"]

    # The money.
    spent = desk.spent()
    assert (spent.presumed, spent.presumed_cost > 0) == (int(row.presumed), row.presumed)
    assert spent.failed_cost == 0
    assert after.open_reservations == 0


def test_no_call_is_made_or_paid_during_a_pause(desk: Desk, simulator: Simulator) -> None:
    simulator.configure(failures=[{"mode": "429", "times": 1, "retry_after": "60"}])
    desk.deliver(job(1))
    others = desk.all(*(job(number) for number in range(2, 6)))
    assert all(
        each.snooze is not None and each.snooze.reason == "acme/small has answered 429 and is paused" for each in others
    )
    assert all(each.state.attempts == each.state.throttles == 0 for each in others)
    assert len(simulator.journal()) == 1


def test_a_blocked_account_takes_no_call_until_it_is_cleared(desk: Desk, simulator: Simulator) -> None:
    simulator.configure(failures=[{"mode": "insufficient_quota", "times": 1}])
    desk.deliver(job(1))
    waiting = desk.deliver(job(2))
    assert waiting.snooze is not None
    assert waiting.snooze.reason == "the account acme is blocked; a call tries it now and then"
    assert 25 < waiting.snooze.seconds < 65
    assert len(simulator.journal()) == 1
    assert desk.run(unblock_account(desk.keys, "acme/0"))
    assert desk.deliver(job(2)).answered


@pytest.mark.parametrize("form", ["seconds", "fraction", "date", "ms", "gemini", "text", "azure-text"])
def test_every_form_of_retry_after(desk: Desk, simulator: Simulator, form: str) -> None:
    simulator.configure(models={"*": {"rpm": 300, "burst_s": 0.1}}, retry_after=form, headers=False)
    first, second = desk.deliver(job(1)), desk.deliver(job(2))
    assert first.answered
    assert second.answered
    assert second.state.throttles == 1
    assert second.state.attempts == 0, "waiting for capacity spends no attempt"
    _, refused, again = simulator.journal()
    waited = again["at"] - refused["at"]
    # A date is given in whole seconds, and so is the clock beside it.
    assert refused["retry_after"] <= waited < refused["retry_after"] + (1.5 if form == "date" else 0.5)
    assert not again["early"]
    (circuit,) = desk.snapshot().circuits
    assert (circuit.calls, circuit.failures) == (2, 0)


@pytest.mark.parametrize("told", [None, "0"])
def test_a_429_that_tells_no_wait_pauses_longer_each_time(
    desk: Desk, simulator: Simulator, monkeypatch: pytest.MonkeyPatch, told: str | None
) -> None:
    monkeypatch.setattr(planning, "MAX_AHEAD", 1.5)
    simulator.configure(failures=[{"mode": "429", "retry_after": told}])
    delivery = desk.deliver(job(1))
    first, second = simulator.journal()
    assert second["at"] - first["at"] == pytest.approx(1.0, abs=0.4)
    assert delivery.snooze is not None
    assert delivery.snooze.reason == "acme/small has answered 429 and is paused"
    more = delivery.snooze.seconds + EARLY
    assert more > 1.0, "the second pause is 2 s, and comes back half of a longest wait earlier"


def refusals(desk: Desk) -> int:
    """How many commands the server has refused because it is full."""
    errors = desk.client.info("errorstats")
    return int(errors["errorstat_OOM"]["count"]) if "errorstat_OOM" in errors else 0


def test_an_answer_is_kept_until_a_full_server_takes_it(tmp_path: Path, simulator: Simulator, desk: Desk) -> None:
    del desk
    simulator.configure(latency=0.3)
    toml = quick(simulator, timeout=5.0)
    with own_valkey() as own, Desk(tmp_path, f"redis://127.0.0.1:{own.port}/0", toml) as full:

        async def fills_up() -> Delivery:
            working = asyncio.create_task(full.delivery(job(1)))
            await asyncio.to_thread(wait_for, simulator.journal)
            full.client.config_set("maxmemory", 1)
            await asyncio.to_thread(wait_for, lambda: not simulator.stats()["in_flight"], what="the answer")
            before = refusals(full)
            await asyncio.to_thread(wait_for, lambda: refusals(full) > before + 1, what="two refusals")
            assert not working.done()
            full.client.config_set("maxmemory", 0)
            return await working

        full.open_gates()
        delivery = full.wait(fills_up())
        assert delivery.answered
        assert full.spent().cost > 0
    assert len(simulator.journal()) == 1
