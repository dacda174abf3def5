"""The least that a client can do: one loop, aiohttp, no queue, no limits, no results.

`bare.py URL COUNT AT_ONCE [A_SECOND]`: as fast as it can, or A_SECOND calls a second, and then it prints the CPU seconds
that they took.
"""

import asyncio
import sys
import time

import aiohttp


async def main(url: str, count: int, at_once: int, a_second: float = 0.0) -> None:
    numbers = iter(range(count))
    began, cpu = time.monotonic(), time.process_time()
    headers = {"authorization": "Bearer sk-bench"}
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0), headers=headers) as session:

        async def work() -> None:
            for number in numbers:
                if a_second:
                    await asyncio.sleep(began + number / a_second - time.monotonic())
                message = {"role": "user", "content": f"Say something about the number {number}."}
                body = {"model": "small", "messages": [message], "max_tokens": 50}
                async with session.post(f"{url}/v1/chat/completions", json=body) as answer:
                    await answer.json()

        await asyncio.gather(*(work() for _ in range(at_once)))
    if a_second:
        print(time.process_time() - cpu)


asyncio.run(main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), *map(float, sys.argv[4:])))
