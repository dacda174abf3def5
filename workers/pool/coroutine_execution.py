"""A task that is a coroutine, on the event loop."""

import asyncio
import contextvars
import inspect
import logging
from collections.abc import Callable
from functools import partial
from typing import Any, Literal

from celery.exceptions import SoftTimeLimitExceeded

from workers.pool.bridge import Bridge
from workers.pool.coroutine import host, set_owner
from workers.pool.execution import Execution

log = logging.getLogger(__name__)

#: Seconds after which a cancelled coroutine that is still running is cancelled again.
CANCEL_AGAIN = 10.0


class CoroutineExecution(Execution):
    """A task whose function is `async def`: the tracer runs in a greenlet on the loop's thread."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.task: asyncio.Task[None] | None = None
        self.bridge: Bridge | None = None
        self.state: Literal["before", "in", "after"] = "before"

    def _run(self) -> None:
        assert self.event_loop is not None
        context = contextvars.copy_context()
        context.run(set_owner, self)
        context.run(host.set, self)
        call = partial(self.pool_task.target, *self.pool_task.args)
        self.bridge = Bridge(call, context, self.event_loop.loop.threads["results"])
        self.task = self.event_loop.loop.create_task(self._main(self.bridge), context=context)

    async def _main(self, bridge: Bridge) -> None:
        try:
            value = await bridge
        except BaseException as exc:  # noqa: BLE001 - reported to Celery, whatever it is
            self._end(None, exc)
        else:
            self._end(value, None)
        self.bridge = self.task = None

    def run_body(self, function: Callable[..., Any], args: Any, kwargs: Any) -> Any:
        """Run the task's function and wait for its coroutine. Only here can it be interrupted."""
        result = function(*args, **kwargs)
        if self.state != "before" or not inspect.iscoroutine(result):
            return result
        bridge = self.bridge
        assert bridge is not None
        if self.stop_reason is not None:
            result.close()
            raise asyncio.CancelledError(self.stop_reason)
        self.state = "in"
        try:
            return bridge.wait(result)
        finally:
            self.state = "after"

    def _break_off(self) -> None:
        if self.state != "in" or self.task is None:
            return
        assert self.event_loop is not None
        if self.bridge is not None:
            self.bridge.interruption = None
        self.task.cancel(self.stop_reason)
        self.timers.append(self.event_loop.loop.call_later(CANCEL_AGAIN, self._still_there))

    def _still_there(self) -> None:
        if self.state == "in":
            log.warning("%s was cancelled (%s) and is still running", self.pool_task.args[1], self.stop_reason)
            self._break_off()

    def _soft_limit(self) -> None:
        if self.state == "in" and self.stop_reason is None and self.task is not None and self.bridge is not None:
            self._soft_limit_passed()
            self.bridge.interruption = SoftTimeLimitExceeded(self.pool_task.soft)
            self.task.cancel()
