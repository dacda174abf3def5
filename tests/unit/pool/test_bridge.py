"""Synchronous code on an event loop that waits for coroutines."""

import asyncio
import contextvars
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from workers.pool.bridge import Bridge, call_blocking

color: contextvars.ContextVar[str] = contextvars.ContextVar("color", default="none")


def run(function: Callable[[Bridge], Any], during: Callable[[asyncio.Task[Any], Bridge], Any] | None = None) -> Any:
    """Run `function` under a bridge on a loop, as the pool does."""

    async def main() -> Any:
        with ThreadPoolExecutor(2, "aside") as threads:
            context = contextvars.copy_context()
            bridge = Bridge(lambda: function(bridge), context, threads)

            async def wait() -> Any:
                return await bridge

            task = asyncio.get_running_loop().create_task(wait(), context=context)
            if during is not None:
                await asyncio.sleep(0.02)
                during(task, bridge)
            return await task

    return asyncio.run(main())


async def later(value: Any, seconds: float = 0.01) -> Any:
    await asyncio.sleep(seconds)
    return value


def test_a_synchronous_function_waits_for_a_coroutine() -> None:
    assert run(lambda bridge: [bridge.wait(later(n)) for n in range(3)]) == [0, 1, 2]


def test_a_coroutines_error_is_raised_by_its_wait() -> None:
    async def fail() -> None:
        await asyncio.sleep(0)
        raise LookupError("missing")

    def caught(bridge: Bridge) -> str:
        try:
            bridge.wait(fail())
        except LookupError as exc:
            return str(exc)
        return "nothing"

    assert run(caught) == "missing"


def test_context_variables_reach_the_coroutine_and_its_tasks() -> None:
    async def child() -> str:
        await asyncio.sleep(0)
        return color.get()

    def paint(bridge: Bridge) -> list[str]:
        color.set("red")

        async def body() -> list[str]:
            return [color.get(), *await asyncio.gather(child(), child())]

        return list(bridge.wait(body()))

    assert run(paint) == ["red", "red", "red"]
    assert color.get() == "none"


def test_many_bridges_share_a_loop() -> None:
    async def main() -> float:
        started = time.monotonic()
        with ThreadPoolExecutor(1) as threads:

            async def one(number: int) -> int:
                def body() -> int:
                    return int(bridge.wait(later(number, 0.1)))

                bridge = Bridge(body, contextvars.copy_context(), threads)
                return int(await bridge)

            assert await asyncio.gather(*(one(n) for n in range(500))) == list(range(500))
        return time.monotonic() - started

    assert asyncio.run(main()) < 5.0


def test_the_waiting_coroutine_sees_a_cancellation() -> None:
    seen: list[str] = []

    async def sleeper() -> None:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            await asyncio.sleep(0.01)  # it may still clean up
            seen.append("cancelled")
            raise

    with pytest.raises(asyncio.CancelledError):
        run(lambda bridge: bridge.wait(sleeper()), lambda task, _: task.cancel())
    assert seen == ["cancelled"]


def test_an_interruption_replaces_a_cancellation() -> None:
    async def sleeper() -> str:
        try:
            await asyncio.sleep(60)
        except TimeoutError:
            await asyncio.sleep(0.01)
            task = asyncio.current_task()
            assert task is not None
            return f"heeded {task.cancelling()}"
        return "slept"

    def interrupt(task: asyncio.Task[Any], bridge: Bridge) -> None:
        bridge.interruption = TimeoutError()
        task.cancel()

    assert run(lambda bridge: bridge.wait(sleeper()), interrupt) == "heeded 0"


def test_a_blocking_call_runs_in_a_thread_while_the_loop_continues() -> None:
    async def main() -> tuple[str, int]:
        turns = 0
        with ThreadPoolExecutor(1, "aside") as threads:

            def blocks() -> str:
                color.set("blue")
                time.sleep(0.1)
                return threading.current_thread().name

            bridge = Bridge(lambda: call_blocking(blocks), contextvars.copy_context(), threads)

            async def wait() -> str:
                return str(await bridge)

            task = asyncio.create_task(wait())
            while not task.done():
                await asyncio.sleep(0.001)
                turns += 1
            return task.result(), turns

    name, turns = asyncio.run(main())
    assert name.startswith("aside")
    assert turns > 5


def test_without_a_bridge_the_call_runs_in_place() -> None:
    assert call_blocking(threading.current_thread) is threading.current_thread()


def test_a_cancellation_waits_for_the_thread() -> None:
    done = threading.Event()

    def blocks() -> None:
        time.sleep(0.1)
        done.set()

    with pytest.raises(asyncio.CancelledError):
        run(lambda _: call_blocking(blocks), lambda task, _: task.cancel())
    assert done.is_set()
