"""The least that a client can do: one loop, aiohttp, no queue, no limits, no results.

`bare.py URL COUNT AT_ONCE [A_SECOND [REDIS]]`: as fast as it can, or A_SECOND calls a second, and then it prints the
CPU seconds that they took. With the address of a Redis, each call has four round trips to it, as a job has that is
claimed, admitted, settled and acknowledged: a PING each, over a connection that is kept.
"""

import asyncio
import sys
import time
from collections.abc import Awaitable, Callable
from urllib.parse import urlsplit

import aiohttp


async def asker(redis: str) -> Callable[[int], Awaitable[None]]:
    """Returns a function that makes a number of round trips, one after the other."""
    parts = urlsplit(redis)
    reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
    turn = asyncio.Lock()

    async def command(words: str, reply: bytes) -> None:
        async with turn:
            writer.write(f"{words}\r\n".encode())
            told = await reader.readline()
        assert told == reply, told

    async def ask(times: int) -> None:
        for _ in range(times):
            await command("PING", b"+PONG\r\n")

    await command(f"AUTH {parts.username or 'default'} {parts.password}", b"+OK\r\n")
    return ask


async def main(url: str, count: int, at_once: int, a_second: float = 0.0, redis: str = "") -> None:
    numbers = iter(range(count))
    ask = await asker(redis) if redis else None
    began, cpu = time.monotonic(), time.process_time()
    headers = {"authorization": "Bearer sk-bench"}
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0), headers=headers) as session:

        async def work() -> None:
            for number in numbers:
                if a_second:
                    await asyncio.sleep(began + number / a_second - time.monotonic())
                if ask:
                    await ask(2)
                message = {"role": "user", "content": f"Say something about the number {number}."}
                body = {"model": "small", "messages": [message], "max_tokens": 50}
                async with session.post(f"{url}/v1/chat/completions", json=body) as answer:
                    await answer.json()
                if ask:
                    await ask(2)

        await asyncio.gather(*(work() for _ in range(at_once)))
    if a_second:
        print(time.process_time() - cpu)


asyncio.run(main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), *map(float, sys.argv[4:5]), *sys.argv[5:]))
