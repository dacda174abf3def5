"""Celery tasks as a user may have them beside the jobs, for tests of the pools: `-I tests.support.tasks`."""

import asyncio
import threading
import time
from typing import Any

from celery import current_task
from celery.exceptions import SoftTimeLimitExceeded

from workers.celery import app
from workers.models import tokens


@app.task(bind=True)
async def who(self: Any) -> dict[str, Any]:
    """The ids that the task's code, what it awaits and an asyncio task of it find for themselves."""

    async def child() -> str:
        await asyncio.sleep(0.01)
        return str(self.request.id)

    first, second = await asyncio.gather(child(), asyncio.create_task(child()))
    await asyncio.sleep(0.01)
    return {
        "request": self.request.id,
        "children": [first, second],
        "current": current_task.request.id,
        "retries": self.request.retries,
        "thread": threading.current_thread().name,
        "loop": id(asyncio.get_running_loop()),
    }


@app.task
def thread_name() -> str:
    return threading.current_thread().name


@app.task
def add(x: int, y: int) -> int:
    return x + y


@app.task
async def add_slowly(x: int, y: int) -> int:
    await asyncio.sleep(0.05)
    return x + y


@app.task
async def add_in(seconds: float, x: int, y: int) -> int:
    await asyncio.sleep(seconds)
    return x + y


@app.task
def total(numbers: list[int]) -> int:
    return sum(numbers)


@app.task
async def fail(words: str) -> None:
    await asyncio.sleep(0)
    raise ValueError(words)


@app.task(bind=True, max_retries=3)
async def third_time(self: Any) -> int:
    """Succeeds in its third run."""
    await asyncio.sleep(0)
    if self.request.retries < 2:
        raise self.retry(countdown=0)
    return int(self.request.retries)


@app.task
async def sleep(seconds: float) -> str:
    await asyncio.sleep(seconds)
    return "slept"


@app.task
async def publish(count: int) -> float:
    """Publishes while others run; returns for how long the loop stood still at most, in seconds."""
    longest, last, publishing = 0.0, time.monotonic(), True

    async def watch() -> None:
        nonlocal longest, last
        while publishing:
            await asyncio.sleep(0.001)
            now = time.monotonic()
            longest, last = max(longest, now - last), now

    watcher = asyncio.create_task(watch())
    for _ in range(count):
        add.apply_async((1, 2), ignore_result=True)
    publishing = False
    await watcher
    return longest


@app.task
def block(seconds: float) -> str:
    """Keeps its thread busy, a little at a time."""
    ends = time.monotonic() + seconds
    while time.monotonic() < ends:
        time.sleep(0.01)
    return "blocked"


@app.task
async def heed(seconds: float) -> str:
    """Reports that its soft time limit was raised."""
    try:
        await asyncio.sleep(seconds)
    except SoftTimeLimitExceeded:
        return "heeded"
    return "slept"


@app.task
def heed_in_thread(seconds: float) -> str:
    try:
        return block.run(seconds)
    except SoftTimeLimitExceeded:
        return "heeded"


@app.task
async def leave_mark(path: str, seconds: float) -> None:
    """Writes a line when it begins and one when it ends, whichever way."""
    _mark(path, "begins")
    try:
        await asyncio.sleep(seconds)
    except BaseException as exc:
        _mark(path, type(exc).__name__)
        raise
    _mark(path, "ends")


def _mark(path: str, word: str) -> None:
    with open(path, "a", encoding="utf-8") as file:  # noqa: PTH123
        file.write(f"{word}\n")


@app.task
async def counted(url: str, body: dict[str, Any]) -> int:
    """The tokens of a body, as a job in this worker would count them."""
    await asyncio.sleep(0)
    return tokens.count(url, body)


@app.task
def doze(seconds: float) -> None:
    """Keeps its thread in one call of C, which nothing can interrupt."""
    time.sleep(seconds)
