"""The asyncio pool: thousands of tasks at a time in one process, behind Celery's pool interface.

    main thread: Celery's hub ──► TaskPool ──► EventLoop: coroutines, each under Celery's own tracer in a greenlet
         ▲                                          └──► threads: synchronous tasks, results, name lookups
         └──────────────── Mailbox ◄────────────────┘

The pool counts its slots in the main thread, where tasks are accepted and end. Celery's tracer runs unchanged, so
signals, events, results, retries and `self.request` are Celery's own.

When the worker stops, tasks have `stop_grace_period` to finish, but for its last seconds (last_resort.py). Then they
are interrupted, settle their money, and their messages go back to the queue. Tasks that have not begun go back at once.
"""

import inspect
import itertools
import logging
import os
import threading
import time
from collections import deque
from contextlib import suppress
from typing import Any
from weakref import WeakSet

from celery.concurrency.base import BasePool
from celery.concurrency.prefork import _run_ready_callbacks
from celery.worker import state

from workers.pool.coroutine_execution import CoroutineExecution
from workers.pool.execution import Execution, PoolTask
from workers.pool.gc_tuning import collect_rarely
from workers.pool.last_resort import CLOSING
from workers.pool.loop import EventLoop
from workers.pool.main_thread import Mailbox
from workers.pool.open_files import allow_sockets
from workers.pool.thread_execution import ThreadExecution

log = logging.getLogger(__name__)

#: Seconds that interrupted tasks have to settle and report when the worker stops: less than last_resort.py's CLOSING.
REPORT_SECONDS = 3.0

#: The assumed number of slots on other pools.
USUAL_SLOTS = 100

_running: "WeakSet[TaskPool]" = WeakSet()


def slots() -> int:
    """The number of tasks that this process runs at a time."""
    return sum(pool.limit for pool in _running) or USUAL_SLOTS


class TaskPool(BasePool):  # type: ignore[misc]  # Celery has no types
    """Celery's pool interface over an event loop. `limit` is the number of slots: tasks at a time."""

    signal_safe = False
    task_join_will_block = False
    body_can_be_buffer = True

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.executions: dict[int, Execution] = {}
        self.waiting: deque[Execution] = deque()
        self.running = 0
        self.min_limit = min(1, self.limit)
        self.stopping = False
        self.retired: list[EventLoop] = []
        self.hub: Any = None
        self._numbers = itertools.count(1)
        self._kinds: dict[str, tuple[Any, type[Execution]]] = {}
        # Celery's signal handlers stop the pool in the middle of whatever the main thread is doing.
        self._lock = threading.RLock()

    # Life

    def on_start(self) -> None:
        allow_sockets(self.limit)
        collect_rarely()
        _running.add(self)
        self.mailbox = Mailbox(inline=bool(self.options.get("threads")))
        self.event_loop = EventLoop(self.app)

    def register_with_event_loop(self, hub: Any) -> None:
        """Have this hub deliver the mailbox. Celery calls this again after each lost connection."""
        self.hub = hub
        self.mailbox.attach(hub)

    def restart(self) -> None:
        """Use a new loop with new connections. Running tasks finish on the old one."""
        with self._lock:
            self.retired.append(self.event_loop)
            self.event_loop = EventLoop(self.app)
            self._kinds.clear()  # tasks may have been reloaded
        self._end_retired()

    def on_stop(self) -> None:
        """Warm shutdown, and the last step of a cold one: wait for running tasks, put back those that take too long."""
        self._put_back_waiting()
        # In a cold shutdown Celery has already cancelled all tasks.
        grace = 0.0 if state.should_terminate else self.app.conf.get("worker_stop_grace_period", 0.0)
        self.wait_until_idle(max(0.0, grace - CLOSING))
        if self.executions:
            log.warning("%d tasks are interrupted and their messages put back", len(self.executions))
            self._break_off()
        self._end()

    def on_terminate(self) -> None:
        """Cold shutdown: interrupt running tasks and put their messages back."""
        self._put_back_waiting()
        self._break_off()
        self._end()

    def wait_until_idle(self, seconds: float) -> None:
        """Wait at most `seconds` until nothing runs. Acknowledgements and the transport's timers continue."""
        ends = time.monotonic() + seconds
        while self.executions and time.monotonic() < ends:
            self.mailbox.wait(min(0.1, max(0.0, ends - time.monotonic())))
            self._turn()
        self._turn()

    def _turn(self) -> None:
        """Do what the hub would do for the pool: while the worker stops, the hub itself doesn't run."""
        self.mailbox.deliver()
        if self.hub is not None:
            # The hub itself logs a timer that fails. What is left is a signal handler that runs in the middle of
            # fire_timers: the hub's generator can't be entered twice, and the next turn fires the timers.
            with suppress(Exception):
                self.hub.fire_timers()
            _run_ready_callbacks(self.hub)

    def _break_off(self) -> None:
        for execution in list(self.executions.values()):
            execution.interrupt("stopping")
        self.wait_until_idle(REPORT_SECONDS)
        for execution in list(self.executions.values()):
            if self._ended(execution):  # even if it still runs: its message must not be lost
                execution.report_stopped("stopping")

    def _put_back_waiting(self) -> None:
        self.stopping = True
        while self.waiting:
            execution = self.waiting.popleft()
            if self._ended(execution, ran=False):
                execution.report_stopped("stopping")

    def _end(self) -> None:
        self._turn()
        for event_loop in (*self.retired, self.event_loop):
            event_loop.end()
        self._turn()

    def _end_retired(self) -> None:
        used = {execution.event_loop for execution in self.executions.values()}
        for event_loop in [event_loop for event_loop in self.retired if event_loop not in used]:
            self.retired.remove(event_loop)
            threading.Thread(target=event_loop.end, name="end-of-loop", daemon=True).start()

    # Work

    def apply_async(self, target: Any, args: Any = None, kwargs: Any = None, **options: Any) -> Execution:
        """Queue a task until there is a slot for it. Celery's own method would log the arguments at DEBUG."""
        del kwargs
        name, _, request, *_ = args
        task, kind = self._kind(name)
        # Celery fixes a task's limits when the consumer starts; these are the current ones.
        hard, soft = request.get("timelimit") or (None, None)
        pool_task = PoolTask(
            target,
            args,
            on_accepted=options["accept_callback"],
            on_success=options["callback"],
            on_failure=options["error_callback"],
            on_timeout=options["timeout_callback"],
            soft=soft or task.soft_time_limit or self.options.get("soft_timeout"),
            hard=hard or task.time_limit or self.options.get("timeout"),
        )
        execution = kind(next(self._numbers), pool_task, self.mailbox, self._ended)
        with self._lock:
            self.executions[execution.number] = execution
            self.waiting.append(execution)
            self._fill()
        return execution

    def _kind(self, name: str) -> tuple[Any, type[Execution]]:
        """A task by name, and how to execute it."""
        found = self._kinds.get(name)
        if found is None:
            task = self.app.tasks[name]
            kind = CoroutineExecution if inspect.iscoroutinefunction(task.run) else ThreadExecution
            found = self._kinds[name] = task, kind
        return found

    def _fill(self) -> None:
        while self.waiting and self.running < self.limit:
            execution = self.waiting.popleft()
            if execution.stop_reason is not None:  # it was revoked while it waited
                self._ended(execution, ran=False)
                execution.report_stopped(execution.stop_reason)
                continue
            self.running += 1
            execution.start(self.event_loop)

    def _ended(self, execution: Execution, *, ran: bool = True) -> bool:
        with self._lock:
            if self.executions.pop(execution.number, None) is None:
                return False
            self.running -= ran
            self._fill()
        if self.stopping and execution.stop_reason == "revoked":
            # In a cold shutdown Celery cancels all tasks like revoked ones. Those that really were revoked have been
            # acknowledged, so putting them back changes nothing.
            execution.stop_reason = "stopping"
        if self.retired:
            self._end_retired()
        return True

    # Controls

    def grow(self, n: int = 1) -> None:
        """Add `n` slots."""
        with self._lock:
            self.limit += n
            allow_sockets(self.limit)
            self._fill()

    def shrink(self, n: int = 1) -> None:
        """Remove `n` slots. Running tasks continue; new ones begin once enough have ended."""
        if self.limit - n < self.min_limit:
            raise ValueError(f"the pool has {self.limit} slots and needs at least one")
        self.limit -= n

    def terminate_job(self, pid: int, signal: Any = None) -> None:
        """Interrupt the task with this number, which Celery knows as its worker_pid."""
        del signal
        execution = self.executions.get(pid)
        if execution is not None:
            execution.interrupt("revoked")

    def _get_info(self) -> dict[str, Any]:
        info: dict[str, Any] = super()._get_info()
        loops = (*self.retired, self.event_loop)
        return info | {
            "running": self.running,
            "waiting": len(self.waiting),
            "processes": [os.getpid()],
            "loops": len(loops),
            "threads": sum(event_loop.thread_count for event_loop in loops),
            "timeouts": (self.options.get("soft_timeout") or 0, self.options.get("timeout") or 0),
        }
