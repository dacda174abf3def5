"""Threads for what would block an event loop, by kind, so that one kind never waits for another.

    lookups   host names and prices: every new connection waits for a name
    results   Celery's results, and messages to publish
    files     agents' large answers in `storage`
    steps     agents' steps, which may take as long as they like
    checks    workflows' own checks of answers
    others    what the user's code hands to `asyncio.to_thread`

They are daemon threads: a process that ends doesn't wait for them.
"""

import asyncio
import contextvars
import socket
import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Executor, Future
from functools import partial
from typing import Any, Final, Literal, ParamSpec, TypeVar, TypeVarTuple

P = ParamSpec("P")
T = TypeVar("T")
Ts = TypeVarTuple("Ts")

Kind = Literal["lookups", "results", "files", "steps", "checks", "others"]

#: The most threads of each kind; they start when needed. A provider's name keeps one busy at a time.
MAX_THREADS: Final[dict[Kind, int]] = {"lookups": 16, "results": 4, "files": 4, "steps": 32, "checks": 32, "others": 32}


class Threads(Executor):
    """Up to `most` daemon threads. Each calls `prepare` before its first work."""

    def __init__(self, most: int, name: str, prepare: Callable[[], object] | None = None) -> None:
        self.count = 0
        self._most = most
        self._name = name
        self._prepare = prepare
        self._idle = 0
        self._closed = False
        self._work: deque[tuple[Future[Any], Callable[[], Any]]] = deque()
        self._changed = threading.Condition()

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> "Future[T]":
        """Call `fn(*args, **kwargs)` in one of the threads."""
        future: Future[T] = Future()
        with self._changed:
            if self._closed:
                raise RuntimeError(f"the threads for {self._name} have been shut down")
            self._work.append((future, partial(fn, *args, **kwargs)))
            if len(self._work) > self._idle and self.count < self._most:
                self.count += 1
                threading.Thread(target=self._run, name=f"{self._name}_{self.count}", daemon=True).start()
            self._changed.notify()
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Let each thread end once it has nothing to do. Doesn't wait for them."""
        del wait
        with self._changed:
            self._closed = True
            dropped = list(self._work) if cancel_futures else []
            for each in dropped:
                self._work.remove(each)
            self._changed.notify_all()
        for future, _ in dropped:
            future.cancel()

    def _run(self) -> None:
        if self._prepare is not None:
            self._prepare()
        while (found := self._next()) is not None:
            future, call = found
            if not future.set_running_or_notify_cancel():
                continue
            try:
                result = call()
            except BaseException as exc:  # noqa: BLE001 - raised by the future's result
                future.set_exception(exc)
            else:
                future.set_result(result)
                del result
            del found, future, call  # a waiting thread keeps nothing alive

    def _next(self) -> tuple[Future[Any], Callable[[], Any]] | None:
        with self._changed:
            self._idle += 1
            while not self._work and not self._closed:
                self._changed.wait()
            self._idle -= 1
            return self._work.popleft() if self._work else None


class Loop(asyncio.SelectorEventLoop):
    """asyncio's loop with threads of each kind instead of its one executor. `Threads` explains `prepare`."""

    def __init__(self, prepare: Callable[[], object] | None = None) -> None:
        super().__init__()
        self.threads: dict[Kind, Threads] = {kind: Threads(most, kind, prepare) for kind, most in MAX_THREADS.items()}

    def run_in_executor(self, executor: Executor | None, func: Callable[[*Ts], T], *args: *Ts) -> "asyncio.Future[T]":
        """asyncio's, with the threads for others as the default executor."""
        return super().run_in_executor(self.threads["others"] if executor is None else executor, func, *args)

    async def getaddrinfo(self, *args: Any, **options: Any) -> Any:
        """asyncio's, in the threads for lookups."""
        return await self.run_in_executor(self.threads["lookups"], partial(socket.getaddrinfo, *args, **options))

    async def getnameinfo(self, *args: Any, **options: Any) -> Any:
        """asyncio's, in the threads for lookups."""
        return await self.run_in_executor(self.threads["lookups"], partial(socket.getnameinfo, *args, **options))

    def close(self) -> None:
        """Close the loop and shut its threads down."""
        super().close()
        for threads in self.threads.values():
            threads.shutdown(cancel_futures=True)


async def to_thread(kind: Kind, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """`asyncio.to_thread` in a thread of this kind. On other loops it uses asyncio's own threads."""
    loop = asyncio.get_running_loop()
    threads = loop.threads[kind] if isinstance(loop, Loop) else None
    context = contextvars.copy_context()
    return await loop.run_in_executor(threads, partial(context.run, function, *args, **kwargs))
