"""Lets synchronous code wait on an event loop: Celery's tracer, with an `async def` task inside.

    loop ──► Bridge: fast_trace_task() ──► task() ──► wait(coroutine)
      ▲                                                   │
      └──────── the future that the coroutine awaits ◄────┘

The tracer runs in a greenlet on the loop's thread. To wait, the greenlet hands a future to its parent, an ordinary
asyncio task, and continues when the future is done. To Celery the coroutine is a function that returns late; to asyncio
the tracer is a coroutine.
"""

import asyncio
import contextvars
from collections.abc import Awaitable, Callable, Generator
from concurrent.futures import Executor
from functools import partial
from typing import Any, ParamSpec, TypeVar, cast

from greenlet import getcurrent, greenlet

P = ParamSpec("P")
T = TypeVar("T")


class Bridge(greenlet):  # type: ignore[misc]  # greenlet has no types
    """An awaitable that runs `function` in a greenlet, in `context`, until it returns.

    `threads` run what would block the loop. `interruption`, if set, replaces the next cancellation.
    """

    def __init__(self, function: Callable[[], Any], context: contextvars.Context, threads: Executor) -> None:
        super().__init__(function)
        self.gr_context = context
        self.threads = threads
        self.interruption: Exception | None = None

    def __await__(self) -> Generator[Any, Any, Any]:
        found = self.switch()
        while not self.dead:
            try:
                reply = yield found
            except BaseException as exc:  # noqa: BLE001 - the code that waits inside gets a cancellation, too
                found = self.throw(exc)
            else:
                found = self.switch(reply)
        return found

    def wait(self, awaitable: Awaitable[T]) -> T:
        """Wait for `awaitable`. Called by synchronous code inside the bridge."""
        loop = cast("greenlet", self.parent)
        steps: Any = awaitable.__await__()
        try:
            found = next(steps)
            while True:
                try:
                    reply = loop.switch(found)
                except BaseException as exc:  # noqa: BLE001 - as above
                    found = steps.throw(self._meant(exc))
                else:
                    found = steps.send(reply)
        except StopIteration as end:
            return cast("T", end.value)

    def _meant(self, exc: BaseException) -> BaseException:
        """The interruption that a cancellation stands for: only a cancellation can end an await."""
        if isinstance(exc, asyncio.CancelledError) and self.interruption is not None:
            exc, self.interruption = self.interruption, None
            task = asyncio.current_task()
            assert task is not None
            task.uncancel()
        return exc


def call_blocking(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Call a function that blocks. Inside a bridge it runs in a thread, so that the loop continues."""
    bridge = getcurrent()
    if not isinstance(bridge, Bridge):
        return function(*args, **kwargs)
    context = contextvars.copy_context()
    call = partial(context.run, function, *args, **kwargs)
    return bridge.wait(_finished(asyncio.get_running_loop().run_in_executor(bridge.threads, call)))


async def _finished(future: "asyncio.Future[T]") -> T:
    """The future's result. A thread cannot be cancelled, so a cancellation is raised when it has finished."""
    broken: BaseException | None = None
    while not future.done():
        try:
            await asyncio.wait({future})
        except BaseException as exc:  # noqa: BLE001 - raised below
            broken = exc
    if broken is not None:
        raise broken
    return future.result()
