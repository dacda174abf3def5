"""A server that is slow, silent or gone: no call is lost, answered with another's reply, or left without an end."""

import asyncio
import contextlib
from typing import TYPE_CHECKING

import pytest

from limits.client import async_connection
from limits.client.async_connection import AsyncServer
from limits.errors import ServerUnavailable

if TYPE_CHECKING:
    import redis


async def ask(server: AsyncServer, number: int, deadline: float = 10.0) -> int:
    return int(await server.execute("ECHO", str(number), deadline=deadline))


async def outcome(server: AsyncServer, number: int, deadline: float) -> int | None:
    try:
        return await ask(server, number, deadline)
    except ServerUnavailable:
        return None


def test_a_server_that_stands_still_is_asked_again_when_it_goes_on(
    client: "redis.Redis", port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(async_connection, "_SILENCE", 0.2)

    async def scenario() -> None:
        server = AsyncServer(f"redis://127.0.0.1:{port}")
        assert await ask(server, 1) == 1
        client.client_pause(1200)
        hurried = [outcome(server, number, 0.3) for number in range(200)]
        patient = [outcome(server, number, 10.0) for number in range(200, 400)]
        answers = await asyncio.gather(*hurried, *patient)
        assert answers[:200] == [None] * 200
        assert answers[200:] == list(range(200, 400))
        await server.aclose()

    asyncio.run(scenario())


def test_a_slow_server_is_not_connected_to_again(client: "redis.Redis", port: int) -> None:
    async def scenario() -> None:
        server = AsyncServer(f"redis://127.0.0.1:{port}")
        before = await server.execute("CLIENT", "ID")
        client.client_pause(700)
        assert await asyncio.gather(*(outcome(server, number, 0.3) for number in range(50))) == [None] * 50
        assert await ask(server, 7) == 7, "late replies are not taken for this one's"
        assert await server.execute("CLIENT", "ID") == before
        await server.aclose()

    asyncio.run(scenario())


def test_a_task_that_swallows_its_cancellation_is_cancelled_again() -> None:
    async def stubborn() -> None:
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.sleep(60)
        await asyncio.sleep(60)

    async def scenario() -> None:
        task = asyncio.create_task(stubborn())
        await asyncio.sleep(0)
        await async_connection._end([task])
        assert task.cancelled()

    asyncio.run(asyncio.wait_for(scenario(), 10))
