"""Calls that the tests of connections send, and an `AsyncServer` to send them over."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from limits.admission import admit
from limits.bucket import Quota
from limits.client.async_connection import AsyncServer
from limits.client.scripts import Call, Script
from limits.keys import Keys
from limits.reservation import Ask, Candidate, Charge

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
