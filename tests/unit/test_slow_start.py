"""Slow start: how many jobs of a model start together, in which order, and how calls and 429s change that."""

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from types import SimpleNamespace

import pytest

from tasks.jobs import slow_start as module
from tasks.jobs.slow_start import CALLS, CONNECTING, FIRST, QUIET, SlowStart


class Jobs:
    """Jobs that start one after the other: `started` in their order; each start lasts until `end`."""

    def __init__(self, slow_start: SlowStart) -> None:
        self.slow_start = slow_start
        self.started: list[str] = []
        self.tasks: dict[str, asyncio.Task[None]] = {}

    def ask(self, count: int, model: str = "m") -> None:
        for number in range(len(self.tasks), len(self.tasks) + count):
            name = f"{model}{number}"
            self.tasks[name] = asyncio.create_task(self._start(name, model))

    async def _start(self, name: str, model: str) -> None:
        await self.slow_start.turn(name, model)
        try:
            self.started.append(name)
            await asyncio.Event().wait()
        finally:
            self.slow_start.end(name)

    async def end(self) -> None:
        for task in self.tasks.values():
            task.cancel()
        await asyncio.gather(*self.tasks.values(), return_exceptions=True)


def with_jobs(use: Callable[[Jobs], Awaitable[None]]) -> None:
    async def run() -> None:
        jobs = Jobs(SlowStart())
        await use(jobs)
        await jobs.end()
        assert not jobs.slow_start._starting, "an ended job has no start left"
        assert all(not found.starting and not found.waiting for found in jobs.slow_start._models.values())

    asyncio.run(run())


async def turns() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


def test_few_start_at_first_and_others_in_order_as_starts_end() -> None:
    async def use(jobs: Jobs) -> None:
        jobs.ask(FIRST + 3)
        await turns()
        assert jobs.started == [f"m{number}" for number in range(FIRST)]
        jobs.slow_start.end("m0")
        jobs.slow_start.end("m0")
        await turns()
        assert jobs.started[FIRST:] == [f"m{FIRST}"], "again changes nothing"
        jobs.slow_start.end("m3")
        jobs.slow_start.end("m1")
        await turns()
        assert jobs.started[FIRST:] == [f"m{FIRST}", f"m{FIRST + 1}", f"m{FIRST + 2}"]

    with_jobs(use)


def test_calls_widen_the_start_and_a_429_resets_it(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=lambda: now[0]))

    async def use(jobs: Jobs) -> None:
        jobs.ask(FIRST + 4 * CALLS)
        await turns()
        for number in range(CALLS):
            jobs.slow_start.sent(f"m{number}", "m")
        await turns()
        assert len(jobs.started) == FIRST + CALLS, "nothing is known yet of those that have just left"
        now[0] += QUIET + 0.01
        jobs.slow_start.sent(f"m{CALLS}", "m")
        await turns()
        assert len(jobs.started) == FIRST + CALLS + 1 + 1
        jobs.slow_start.throttled("m")
        now[0] += QUIET + 0.01
        for number in range(3):
            jobs.slow_start.end(f"m{CALLS + 1 + number}")
        await turns()
        assert len(jobs.started) == FIRST + CALLS + 1 + 1 + 2, "one of them made it as few as at first"

    with_jobs(use)


def test_waiting_jobs_start_before_later_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=lambda: now[0]))

    async def use(jobs: Jobs) -> None:
        jobs.ask(FIRST + CALLS + 1)
        await turns()
        for number in range(CALLS):
            jobs.slow_start.sent(f"m{number}", "m")
        await turns()
        now[0] += QUIET + 0.01
        jobs.ask(1)
        await turns()
        assert jobs.started[-1] == f"m{FIRST + CALLS}"
        assert len(jobs.started) == FIRST + CALLS + 1

    with_jobs(use)


def test_a_connecting_start_does_not_hold_up_others_for_long() -> None:
    async def use(jobs: Jobs) -> None:
        jobs.ask(FIRST + 1)
        await turns()
        asked = time.monotonic()
        jobs.slow_start.connecting("m0")
        while len(jobs.started) == FIRST:
            assert time.monotonic() - asked < 5.0
            await asyncio.sleep(0.001)
        assert time.monotonic() - asked >= CONNECTING
        assert jobs.started[-1] == f"m{FIRST}"

    with_jobs(use)


def test_each_start_has_its_own_time_to_connect() -> None:
    async def use(jobs: Jobs) -> None:
        jobs.ask(FIRST + 3)
        await turns()
        begun: list[float] = []
        for number in range(3):
            begun.append(time.monotonic())
            jobs.slow_start.connecting(f"m{number}")
            await asyncio.sleep(CONNECTING / 3)
        for position, since in enumerate(begun):
            while len(jobs.started) <= FIRST + position:
                assert time.monotonic() - since < 5.0
                await asyncio.sleep(0.001)
            assert time.monotonic() - since >= CONNECTING
        assert not jobs.slow_start._connecting
        jobs.slow_start.connecting("m3")
        jobs.slow_start.end("m3")
        await asyncio.sleep(3 * CONNECTING)
        assert not jobs.slow_start._connecting, "nor is a connected one kept"

    with_jobs(use)


def test_a_quick_connection_ends_its_start_on_its_own() -> None:
    async def use(jobs: Jobs) -> None:
        jobs.ask(FIRST + 1)
        await turns()
        jobs.slow_start.connecting("m0")
        time.sleep(2 * CONNECTING)  # noqa: ASYNC251 - the loop is busy: what has come meanwhile takes it two turns to take up
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert len(jobs.started) == FIRST
        assert "m0" in jobs.slow_start._starting

    with_jobs(use)


def test_a_model_does_not_wait_for_another() -> None:
    async def use(jobs: Jobs) -> None:
        jobs.ask(FIRST + 5)
        jobs.ask(1, model="other")
        await turns()
        assert len(jobs.started) == FIRST + 1
        assert jobs.started[-1].startswith("other")

    with_jobs(use)


def test_nothing_is_kept_of_models_that_were_never_called() -> None:
    async def use(jobs: Jobs) -> None:
        for number in range(100):
            await jobs.slow_start.turn(str(number), f"made up {number}")
            jobs.slow_start.end(str(number))
            jobs.slow_start.throttled(f"made up {number}")
        assert not jobs.slow_start._models

    with_jobs(use)


@pytest.mark.parametrize("seed", range(20))
def test_no_turn_is_lost_when_jobs_are_cancelled(seed: int) -> None:
    pick = random.Random(seed)

    async def use(jobs: Jobs) -> None:
        for _ in range(200):
            match pick.randrange(5):
                case 0:
                    jobs.ask(pick.randint(1, 6))
                case 1 if jobs.tasks:
                    jobs.tasks[pick.choice(list(jobs.tasks))].cancel()
                case 2 if jobs.started:
                    # Called and broken off in the same turn of the loop.
                    jobs.slow_start.end(pick.choice(jobs.started))
                    jobs.tasks[pick.choice(list(jobs.tasks))].cancel()
                case 3:
                    await asyncio.sleep(0)
                case _ if pick.random() < 0.7:
                    jobs.slow_start.sent(pick.choice([*jobs.started, "-"]), "m")
                case _:
                    jobs.slow_start.throttled("m")
        await turns()
        open_tasks = [name for name, task in jobs.tasks.items() if not task.done()]
        waiting = [name for name in open_tasks if name not in jobs.started]
        if waiting:
            model = jobs.slow_start._models["m"]
            assert model.starting >= model.width, "somebody waits though there is room"
            assert model.starting == len(jobs.slow_start._starting)

    with_jobs(use)
