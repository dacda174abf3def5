"""Synchronous code on an event loop that can wait: Celery's tracer, with an `async def` task in the middle of it.

    loop ──► Bridge: fast_trace_task() ──► task() ──► wait(coroutine)
      ▲                                                   │
      └──────── the future that the coroutine awaits ◄────┘

The tracer runs in a greenlet on the loop's thread. Where it waits, the greenlet hands the future to its parent, which
is an ordinary asyncio task, and goes on when that future is done. To Celery a coroutine is a function that
returns late; to asyncio the tracer is a coroutine.
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
    """Awaitable: runs `function` in a greenlet of its own, in `context`, until it returns.

    `threads` run what would block the loop. `interruption` takes the place of the next cancellation.
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
            except BaseException as exc:  # noqa: BLE001 - a cancellation, too, is for whoever waits inside
                found = self.throw(exc)
            else:
                found = self.switch(reply)
        return found

    def wait(self, awaitable: Awaitable[T]) -> T:
        """Wait for `awaitable`; called inside the bridge, by synchronous code."""
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
        """An interruption comes as a cancellation, which is the only way to break off an await."""
        if isinstance(exc, asyncio.CancelledError) and self.interruption is not None:
            exc, self.interruption = self.interruption, None
            task = asyncio.current_task()
            assert task is not None
            task.uncancel()
        return exc


def call_blocking(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Call a function that blocks: in a thread where this is a bridge, so that the loop goes on; else right here."""
    bridge = getcurrent()
    if not isinstance(bridge, Bridge):
        return function(*args, **kwargs)
    context = contextvars.copy_context()
    call = partial(context.run, function, *args, **kwargs)
    return bridge.wait(_finished(asyncio.get_running_loop().run_in_executor(bridge.threads, call)))


async def _finished(future: "asyncio.Future[T]") -> T:
    """The future's result. A thread cannot be cancelled: a cancellation is raised when it has finished."""
    broken: BaseException | None = None
    while not future.done():
        try:
            await asyncio.wait({future})
        except BaseException as exc:  # noqa: BLE001 - raised below
            broken = exc
    if broken is not None:
        raise broken
    return future.result()
