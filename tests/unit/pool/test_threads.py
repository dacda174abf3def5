"""Threads beside an event loop: no kind waits for another, and none delays the end of the process."""

import asyncio
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Coroutine, Iterator
from typing import Any, TypeVar

import pytest

from tests.support.site import ROOT, wait_for
from workers.pool.threads import MAX_THREADS, Kind, Loop, Threads, to_thread

T = TypeVar("T")


@pytest.fixture
def gate() -> Iterator[threading.Event]:
    """Blocked threads wait for this; it opens when the test ends."""
    event = threading.Event()
    yield event
    event.set()


def on_our_loop(test: Callable[[], Coroutine[Any, Any, T]]) -> T:
    loop = Loop()
    try:
        return loop.run_until_complete(asyncio.wait_for(test(), 10))
    finally:
        loop.close()


def fill(kind: Kind, gate: threading.Event) -> list["asyncio.Task[bool]"]:
    """More work than there are threads of this kind."""
    return [asyncio.create_task(to_thread(kind, gate.wait)) for _ in range(MAX_THREADS[kind] + 10)]


@pytest.mark.parametrize("blocked", ["steps", "others", "files", "results"])
def test_names_resolve_while_other_threads_are_blocked(blocked: Kind, gate: threading.Event) -> None:
    async def test() -> None:
        filled = fill(blocked, gate)
        if blocked == "others":  # as an agent's own code uses them
            filled.append(asyncio.create_task(asyncio.to_thread(gate.wait)))
        assert await asyncio.get_running_loop().getaddrinfo("localhost", 80)
        for kind in MAX_THREADS:
            if kind != blocked:
                assert await to_thread(kind, lambda: "done") == "done"
        assert not any(task.done() for task in filled)
        gate.set()
        await asyncio.gather(*filled)

    on_our_loop(test)


def test_steps_have_more_threads_than_results_ever_had() -> None:
    assert MAX_THREADS["steps"] >= 32


@pytest.mark.parametrize("most", [1, 2, 7, 32])
def test_work_never_waits_while_a_thread_could_do_it(most: int) -> None:
    threads = Threads(most, "test")
    for _ in range(20):
        together = threading.Barrier(most)
        assert len([each.result(10) for each in [threads.submit(together.wait, 10) for _ in range(most)]]) == most
    assert threads.count == most
    threads.shutdown()
    with pytest.raises(RuntimeError):
        threads.submit(print)


def test_results_and_errors_arrive_after_preparation() -> None:
    prepared: list[str] = []
    threads = Threads(1, "test", lambda: prepared.append(threading.current_thread().name))
    assert threads.submit(divmod, 7, 2).result(5) == (3, 1)
    assert isinstance(threads.submit(sys.exit, 3).exception(5), SystemExit)
    assert threads.submit(lambda: "still there").result(5) == "still there"
    assert prepared == ["test_1"]
    threads.shutdown()


def test_queued_work_can_be_dropped(gate: threading.Event) -> None:
    threads = Threads(1, "test")
    running, waiting = threads.submit(gate.wait), threads.submit(gate.wait)
    wait_for(running.running)
    threads.shutdown(cancel_futures=True)
    assert waiting.cancelled()
    gate.set()
    assert running.result(5)


def test_context_is_passed_on_and_foreign_loops_use_their_own_threads() -> None:
    async def where() -> str:
        return await to_thread("steps", lambda: threading.current_thread().name)

    assert on_our_loop(where).startswith("steps")
    assert not asyncio.run(where()).startswith("steps")


def test_a_process_ends_while_its_threads_are_blocked() -> None:
    program = (
        "import asyncio, time\nfrom workers.pool.threads import Loop, to_thread\nloop = Loop()\n"
        "async def main():\n    asyncio.ensure_future(to_thread('steps', time.sleep, 60))\n"
        "    asyncio.ensure_future(asyncio.to_thread(time.sleep, 60))\n    await asyncio.sleep(0.1)\n"
        "loop.run_until_complete(main())\nprint('ends')\n"
    )
    began = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", program],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
    )
    assert done.stdout == "ends\n"
    assert time.monotonic() - began < 15
