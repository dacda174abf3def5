"""The waitlist of a bucket: in which order its jobs are admitted, when they ask, and how many at once."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from limits.reservation import Denied
from tasks.jobs import waitlist as module
from tasks.jobs.bucket_calls import FIRST, BucketCalls
from tasks.jobs.waitlist import SHORT_PAUSE, opens_in
from tests.support.waiters import ADMITTED, Line, Server, full, paced, settled, waitlist
from workers.transport.gates import LONG


@pytest.fixture
def no_polls(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "POLL", 3600.0)


def scene(use: Callable[[], Awaitable[None]]) -> None:
    async def run() -> None:
        async with asyncio.timeout(20):
            await use()

    asyncio.run(run())


def test_which_denials_are_waited_for_here() -> None:
    assert opens_in(full(100.0)) == module.POLL, "when a call ends is a guess"
    assert opens_in(paced(LONG - 0.1)) == LONG - 0.1
    assert opens_in(paced(LONG + 0.1)) is None
    assert opens_in(paced(0.0)) == module.SHORTEST_POLL
    assert opens_in(paced(SHORT_PAUSE - 0.1, "pause")) == SHORT_PAUSE - 0.1
    assert opens_in(paced(SHORT_PAUSE + 0.1, "pause")) is None
    assert opens_in(paced(0.1, "circuit")) is None
    assert opens_in(Denied("budget", "all", None)) is None


def test_jobs_that_wait_for_their_start_ask_together_in_order() -> None:
    async def use() -> None:
        server = Server(100, full())
        line = Line(waitlist(), server)
        names = [f"{number:02}" for number in range(FIRST + 3)]
        line.join(*names)
        await asyncio.gather(*line.tasks.values())
        assert line.admitted == names
        assert server.asked == [FIRST, 3]
        await settled()
        assert line.waitlist.free

    scene(use)


@pytest.mark.usefixtures("no_polls")
def test_no_job_asks_before_another_may_start() -> None:
    async def use() -> None:
        def wake() -> None:
            line.waitlist.wake()

        calls = BucketCalls(wake)
        line = Line(waitlist(calls), Server(100, full()))
        for _ in range(FIRST):
            calls.start()
        line.join("a", "b")
        await settled()
        assert line.admitted == []
        calls.end_start()
        await asyncio.gather(*line.tasks.values())
        assert line.admitted == ["a", "b"]
        assert line.server.asked == [1, 1]

    scene(use)


@pytest.mark.usefixtures("no_polls")
def test_each_ended_call_lets_a_waiter_ask_and_a_denied_one_keeps_its_place() -> None:
    async def use() -> None:
        line = Line(waitlist(), Server(0, full()))
        line.join("a", "b", "c")
        await settled()
        assert line.admitted == []
        assert line.waitlist.freed()
        await settled()
        assert line.admitted == [], "it was denied again"
        line.server.lets = 2
        assert line.waitlist.freed()
        assert line.waitlist.freed()
        await settled()
        assert line.admitted == ["a", "b"]
        line.server.lets = 1
        line.waitlist.freed()
        await asyncio.gather(*line.tasks.values())
        assert line.admitted == ["a", "b", "c"]
        assert not line.waitlist.freed(), "nobody waits"

    scene(use)


def test_a_waitlist_polls_while_no_call_of_this_worker_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "POLL", 0.01)

    async def use() -> None:
        line = Line(waitlist(), Server(0, full()))
        line.join("alone")
        await settled()
        line.server.lets = 1
        await line.tasks["alone"]
        assert line.admitted == ["alone"]

    scene(use)


def test_as_many_ask_together_as_were_admitted_the_last_time() -> None:
    async def use() -> None:
        server = Server(3, paced(0.02))
        line = Line(waitlist(), server)
        line.join(*"abcdefghijkl")
        await settled()
        assert server.asked == [FIRST], "all that may start, since nothing is known"
        assert len(line.admitted) == 3
        server.lets = 4
        while server.lets or len(server.asked) < 3:
            await settled()
        assert server.asked[1:3] == [3, 1], "as many as were admitted, then one more"
        server.lets = 5
        await asyncio.gather(*line.tasks.values())
        assert line.admitted == list("abcdefghijkl")
        await line.end()

    scene(use)


def test_more_ask_each_time_until_one_is_denied() -> None:
    async def use() -> None:
        server = Server(0, paced(0.02))
        line = Line(waitlist(), server)
        line.join(*(f"{number:02}" for number in range(FIRST)))
        await settled()
        assert server.asked == [FIRST]
        server.lets = FIRST
        await asyncio.gather(*line.tasks.values())
        assert server.asked[1:4] == [1, 1, 2]

    scene(use)


@pytest.mark.usefixtures("no_polls")
def test_a_long_denial_goes_to_the_job_and_the_next_one_asks() -> None:
    async def use() -> None:
        line = Line(waitlist(), Server(0, paced(LONG + 1.0)))
        line.join("a")
        await line.tasks["a"]
        assert line.answers["a"] == line.server.denial
        elsewhere = full(bucket="another")
        line.server.denial = elsewhere
        line.join("b")
        await line.tasks["b"]
        assert line.answers["b"] == elsewhere, "another bucket's waitlist takes it"

    scene(use)


@pytest.mark.usefixtures("no_polls")
def test_a_cancelled_waiter_holds_up_nobody() -> None:
    async def use() -> None:
        line = Line(waitlist(), Server(0, full()))
        line.join("first", "second")
        await settled()
        line.tasks["first"].cancel()
        await settled()
        line.server.lets = 1
        line.waitlist.freed()
        await line.tasks["second"]
        assert line.admitted == ["second"]

    scene(use)


@pytest.mark.parametrize("when", ["swept", "at its turn"])
@pytest.mark.usefixtures("no_polls")
def test_a_job_that_must_not_wait_any_longer_is_sent_away(when: str) -> None:
    async def use() -> None:
        line = Line(waitlist(), Server(0, full()))
        line.join("a", "b", "c")
        await settled()
        line.over |= {"a"}
        if when == "swept":
            line.waitlist.recheck()
        else:
            line.server.lets = 1
            line.waitlist.freed()
        await line.tasks["a"]
        assert line.answers["a"] is None
        line.waitlist.send_away(1)
        await line.tasks["c"]
        assert line.answers["c"] is None, "the last one goes first"
        line.server.lets = 1
        line.waitlist.freed()
        await line.tasks["b"]
        assert line.answers["b"] is ADMITTED

    scene(use)


@pytest.mark.parametrize("failure", [RuntimeError, asyncio.CancelledError])
def test_a_question_that_fails_holds_up_nobody(failure: type[BaseException]) -> None:
    async def use() -> None:
        line = Line(waitlist(), Server(10, full()))

        async def fails() -> None:
            raise failure

        broken = asyncio.create_task(line.waitlist.wait(fails, lambda: False))
        line.join("a", "b")
        await asyncio.gather(*line.tasks.values())
        assert line.admitted == ["a", "b"]
        await asyncio.gather(broken, return_exceptions=True)

    scene(use)
