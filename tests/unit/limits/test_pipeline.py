"""Calls of one turn that are sent as one: each gets its own answer, and only the faulty one fails."""

import asyncio
from typing import TYPE_CHECKING, Any

from limits.client.scripts import Call, Script
from limits.errors import ScriptError
from tests.unit.limits.calls import with_server

if TYPE_CHECKING:
    import redis

    from limits.client.async_connection import AsyncServer

COUNT = Script(
    "count",
    """
    local told = {}
    for i = 2, #ARGV do
      if ARGV[i] == 'bad' then return redis.error_reply('ERR a bad ask') end
      told[#told + 1] = ARGV[1] .. ':' .. ARGV[i]
    end
    redis.call('INCRBY', KEYS[1], #told)
    redis.call('PEXPIRE', KEYS[1], 60000)
    return #told == 1 and told[1] or told
    """,
)


def counted(name: str, now: int = 0) -> Call[bytes]:
    return Call(COUNT, ("counter",), (now, name), bytes, joins=True)


def evaluations(client: "redis.Redis") -> int:
    return sum(
        client.info("commandstats").get(f"cmdstat_{name}", {"calls": 0})["calls"] for name in ("eval", "evalsha")
    )


def test_calls_of_one_script_are_sent_as_one(url: str, client: "redis.Redis") -> None:
    async def steps(server: "AsyncServer") -> int:
        await server.run(counted("warm"))
        before = evaluations(client)
        names = [f"n{number}" for number in range(70)]
        answers = await asyncio.gather(*(server.run(counted(name)) for name in names))
        assert answers == [f"0:{name}".encode() for name in names]
        return evaluations(client) - before

    assert with_server(url, steps) == 3  # of at most 32
    assert client.get("counter") == b"71"


def test_of_joined_calls_only_the_bad_one_fails(url: str, client: "redis.Redis") -> None:
    async def steps(server: "AsyncServer") -> list[Any]:
        await server.run(counted("warm"))
        calls = (server.run(counted(name)) for name in ("a", "b", "bad", "c"))
        return await asyncio.gather(*calls, return_exceptions=True)

    a, b, bad, c = with_server(url, steps)
    assert (a, b, c) == (b"0:a", b"0:b", b"0:c")
    assert isinstance(bad, ScriptError)
    assert client.get("counter") == b"4"


def test_calls_of_different_times_are_not_joined(url: str) -> None:
    async def steps(server: "AsyncServer") -> list[bytes]:
        await server.run(counted("warm"))
        return list(await asyncio.gather(*(server.run(counted(name, now)) for name, now in (("a", 1), ("b", 2)))))

    assert with_server(url, steps) == [b"1:a", b"2:b"]


def test_joined_calls_of_an_unknown_script(url: str, client: "redis.Redis") -> None:
    async def steps(server: "AsyncServer") -> None:
        for turn in range(2):
            client.script_flush()
            answers = await asyncio.gather(*(server.run(counted(f"{turn}-{number}")) for number in range(5)))
            assert answers == [f"0:{turn}-{number}".encode() for number in range(5)]
        cancelled = asyncio.create_task(server.run(counted("cancelled")))
        others = [asyncio.create_task(server.run(counted(name))) for name in ("x", "y")]
        await asyncio.sleep(0)
        cancelled.cancel()
        assert await asyncio.gather(*others) == [b"0:x", b"0:y"]

    with_server(url, steps)
