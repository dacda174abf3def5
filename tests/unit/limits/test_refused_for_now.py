"""Replies that pass (another client's long script, a right that is missing for a moment), and calls that fail alone."""

import asyncio
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import redis

from limits.client.async_connection import AsyncServer
from limits.client.connection import Server
from limits.client.scripts import Call, Script
from limits.errors import NotPermitted, ScriptError, ServerUnavailable
from limits.reservation import Admitted
from tests.support.site import wait_for
from tests.support.valkey import own_valkey
from tests.unit.limits.calls import ONE, ask, with_server

LONG = """
local function now() local time = redis.call('TIME') return time[1] * 1000000 + time[2] end
local ends = now() + tonumber(ARGV[1])
while now() < ends do end
"""


@pytest.fixture(scope="module")
def server() -> Iterator["redis.Redis"]:
    """A server that soon reports that it is busy."""
    with own_valkey(**{"busy-reply-threshold": "100"}) as own:
        client = redis.Redis(port=own.port)
        yield client
        client.close()


def port(client: "redis.Redis") -> int:
    return int(client.connection_pool.connection_kwargs["port"])


@contextmanager
def busy(client: "redis.Redis", seconds: float) -> Iterator[None]:
    """While the block runs, the server is busy with a script, at first at least."""
    thread = threading.Thread(target=redis.Redis(port=port(client)).eval, args=(LONG, 0, int(seconds * 1e6)))
    thread.start()
    ends = time.monotonic() + 10
    while True:
        try:
            client.ping()
        except redis.ResponseError as error:
            assert str(error).startswith("BUSY")  # noqa: PT017 - another reply may be due
            break
        assert time.monotonic() < ends
    try:
        yield
    finally:
        thread.join()


def test_calls_that_meet_a_busy_server_are_sent_again(server: "redis.Redis") -> None:
    async def steps(calls: AsyncServer) -> None:
        await calls.run(ask("warm"))
        with busy(server, 0.8):
            with pytest.raises(ServerUnavailable, match="another client's script"):
                await calls.run(ONE, deadline=0.1)
            answers = await asyncio.gather(*(calls.run(ask(f"r{number}")) for number in range(40)))
        assert all(isinstance(answer, Admitted) and not answer.repeated for answer in answers)

    with_server(f"redis://127.0.0.1:{port(server)}/0", steps)


def test_a_blocking_caller_learns_that_a_server_is_busy(server: "redis.Redis") -> None:
    calls = Server(server)
    with busy(server, 1.5):
        for call in (calls.run, calls.repeat, lambda one: calls.run_many([one])):
            with pytest.raises(ServerUnavailable, match="another client's script"):
                call(ONE)
    assert calls.run(ONE) == 1
    calls.close()


@pytest.mark.parametrize("right", ["evalsha", "set"], ids=["of the command", "of what its script does"])
def test_calls_that_lack_a_right_are_sent_again_until_it_is_granted(server: "redis.Redis", right: str) -> None:
    server.execute_command("ACL", "SETUSER", "narrow", "on", ">p", "~*", "+@all", f"-{right}", "-eval")

    async def steps(calls: AsyncServer) -> None:
        server.script_load(ask("one").script.source)
        with pytest.raises(NotPermitted, match="limits/lua/admit"):
            await calls.run(ask("hasty"), deadline=0.3)
        waiting = asyncio.create_task(calls.run(ask(right)))
        await asyncio.to_thread(wait_for, lambda: calls._outstanding._deferred, what="a refusal")
        assert not waiting.done()
        server.execute_command("ACL", "SETUSER", "narrow", f"+{right}")
        assert isinstance(await waiting, Admitted)

    with_server(f"redis://narrow:p@127.0.0.1:{port(server)}/0", steps)


def test_a_call_that_cannot_be_sent_fails_alone(server: "redis.Redis") -> None:
    """Neither the calls joined with it nor those behind it fail."""
    echo = Script("echo", "return #ARGV == 2 and ARGV[2] or { unpack(ARGV, 2) }")

    def said(words: str | None) -> Call[bytes]:
        return Call(echo, (), ("0", words), bytes, joins=True)  # type: ignore[arg-type]

    async def steps(calls: AsyncServer) -> None:
        before, half, after, none, well = await asyncio.gather(
            calls.run(said("before")),
            calls.run(said("half \ud83d a pair")),
            calls.run(said("after")),
            calls.run(said(None)),
            calls.execute("ECHO", b"well"),
            return_exceptions=True,
        )
        assert (before, after, well) == (b"before", b"after", b"well")
        for failed, words in ((half, "UnicodeEncodeError"), (none, "TypeError")):
            assert isinstance(failed, ScriptError)
            assert f"echo: an argument cannot be sent to Redis ({words}" in str(failed)
        assert len(calls._outstanding) == 0
        with pytest.raises(ServerUnavailable):
            await calls.execute("BLPOP", "none", "2", deadline=0.2)

    with_server(f"redis://127.0.0.1:{port(server)}/0", steps)


def test_a_defect_of_ours_fails_only_the_calls_in_flight(
    server: "redis.Redis", caplog: pytest.LogCaptureFixture
) -> None:
    async def steps(calls: AsyncServer) -> None:
        await calls.run(ONE)
        taken = calls._outstanding.take_reply

        def take(reply: object) -> None:
            calls._outstanding.take_reply = taken  # type: ignore[method-assign]
            raise KeyError(reply)

        calls._outstanding.take_reply = take  # type: ignore[method-assign, assignment]
        with pytest.raises(ScriptError, match="KeyError"):
            await calls.run(ONE)
        assert await calls.run(ONE) == 1

    with_server(f"redis://127.0.0.1:{port(server)}/0", steps)
    assert "the connection to Redis failed" in caplog.text


def test_an_answer_too_few_asks_each_call_alone(server: "redis.Redis") -> None:
    short = Script("short", "return #ARGV == 2 and 7 or { 1 }")

    async def steps(calls: AsyncServer) -> list[int]:
        asks = (calls.run(Call(short, (), ("0", str(number)), int, joins=True)) for number in range(3))
        return list(await asyncio.gather(*asks))

    assert with_server(f"redis://127.0.0.1:{port(server)}/0", steps) == [7, 7, 7]
