"""The least that a client can do: one loop, aiohttp, no queue, no limits, no results. `bare.py URL COUNT AT_ONCE`."""

import asyncio
import sys

import aiohttp


async def main(url: str, count: int, at_once: int) -> None:
    numbers = iter(range(count))
    headers = {"authorization": "Bearer sk-bench"}
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0), headers=headers) as session:

        async def work() -> None:
            for number in numbers:
                message = {"role": "user", "content": f"Say something about the number {number}."}
                body = {"model": "small", "messages": [message], "max_tokens": 50}
                async with session.post(f"{url}/v1/chat/completions", json=body) as answer:
                    await answer.json()

        await asyncio.gather(*(work() for _ in range(at_once)))


asyncio.run(main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3])))
