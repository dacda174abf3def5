"""A server without memory, disk or replicas takes no writes: calls wait until it does, and none is done twice."""

import asyncio
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from limits.admission import settle
from limits.client.async_connection import AsyncServer
from limits.client.connection import Server
from limits.errors import ServerUnavailable
from limits.reservation import Admitted, Settlement
from tests.support.site import wait_for
from tests.support.valkey import own_valkey
from tests.unit.limits.calls import KEYS, ONE, ask, with_server


class NoMemory:
    """`cause` and `mend` what keeps a server from writing; `word` is the first of its complaint."""

    word = "OOM"

    def __init__(self, client: "redis.Redis", folder: Path) -> None:
        self.client = client
        self.folder = folder

    def cause(self) -> None:
        self.client.config_set("maxmemory", 1)

    def mend(self) -> None:
        self.client.config_set("maxmemory", 0)


class NoReplicas(NoMemory):
    word = "NOREPLICAS"

    def cause(self) -> None:
        self.client.config_set("min-replicas-to-write", 1)

    def mend(self) -> None:
        self.client.config_set("min-replicas-to-write", 0)


class NoDisk(NoMemory):
    word = "MISCONF"

    def cause(self) -> None:
        gone = self.folder / "gone"
        gone.mkdir()
        self.client.config_set("dir", str(gone))
        gone.rmdir()
        self.save("err")

    def mend(self) -> None:
        self.client.config_set("dir", str(self.folder))
        self.save("ok")

    def save(self, outcome: str) -> None:
        self.client.bgsave()
        ends = time.monotonic() + 30
        while self.client.info("persistence")["rdb_last_bgsave_status"] != outcome:
            assert time.monotonic() < ends
            time.sleep(0.02)


@pytest.fixture(params=[NoMemory, NoDisk, NoReplicas])
def trouble(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[NoMemory]:
    """A server of its own, which soon takes no writes."""
    with own_valkey(save="3600 1", **{"enable-protected-configs": "yes"}) as own:
        client = redis.Redis(port=own.port)
        yield request.param(client, tmp_path)
        client.close()


def url_of(trouble: NoMemory) -> str:
    return f"redis://127.0.0.1:{trouble.client.connection_pool.connection_kwargs['port']}/0"


def test_refused_writes_are_sent_again_until_the_server_takes_them(
    trouble: NoMemory, caplog: pytest.LogCaptureFixture
) -> None:
    def connections() -> int:
        return int(trouble.client.info("stats")["total_connections_received"])

    async def steps(server: AsyncServer) -> None:
        assert isinstance(await server.run(ask("paid")), Admitted)
        trouble.cause()
        before = connections()
        with pytest.raises(ServerUnavailable, match=f"takes no writes: {trouble.word}") as told:
            await server.run(ask("hasty"), deadline=0.3)
        assert "safe to repeat" in told.value.next_step
        asks = [asyncio.create_task(server.run(ask(f"r{number}"), deadline=60)) for number in range(5)]
        end = asyncio.create_task(server.run(settle(KEYS, "paid", "o", Settlement()), deadline=3_600))
        plain = asyncio.create_task(server.execute("SET", "x", "1", "PX", 60_000, deadline=60))
        await asyncio.sleep(0.6)  # time for two further tries
        assert not any(task.done() for task in (*asks, end, plain))
        assert await server.run(ONE, deadline=1) == 1, "what writes nothing is answered meanwhile"
        assert connections() == before, "over the same connection"
        trouble.mend()
        answers = await asyncio.gather(*asks)
        assert all(isinstance(answer, Admitted) and not answer.repeated for answer in answers)
        assert (await end).verdict == "settled"
        assert await plain == b"OK"
        assert len(server._outstanding) == 0

    with_server(url_of(trouble), steps)
    [told] = [record.getMessage() for record in caplog.records if record.name == "limits.client.outstanding"]
    assert "takes no writes" in told
    assert trouble.word in told


def test_a_blocking_caller_learns_that_a_server_takes_no_writes(trouble: NoMemory) -> None:
    server = Server(trouble.client)
    assert server.run(ONE) == 1
    trouble.cause()
    for call in (server.run, server.repeat, lambda call: server.run_many([ONE, call])):
        with pytest.raises(ServerUnavailable, match=f"takes no writes: {trouble.word}"):
            call(ask("a"))
    trouble.mend()
    answer = server.run(ask("a"))
    assert isinstance(answer, Admitted)
    assert not answer.repeated, "nothing of it was done before"
    server.close()


def test_deferred_calls_count_as_waiting_and_end_with_their_connection(tmp_path: Path) -> None:
    async def steps(server: AsyncServer) -> None:
        refused = [asyncio.create_task(server.run(ask(f"r{number}"), deadline=60)) for number in range(4)]
        await asyncio.to_thread(wait_for, lambda: len(server._outstanding._deferred) == 4, what="refusals")
        with pytest.raises(ServerUnavailable, match="4 calls to Redis are waiting"):
            await server.run(ONE, deadline=0)
        refused[0].cancel()
        await server.aclose()
        for each in refused[1:]:
            with pytest.raises(ServerUnavailable, match="closed"):
                await each

    with own_valkey() as own:
        trouble = NoMemory(redis.Redis(port=own.port), tmp_path)
        trouble.cause()
        with_server(url_of(trouble), steps, most_pending=4)
        trouble.client.close()
