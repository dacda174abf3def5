"""The asyncio pool: thousands of tasks at a time in one process, and Celery to everyone who looks at it.

    main thread: Celery's hub ──► TaskPool ──► EventLoop: coroutines, each under Celery's own tracer in a greenlet
         ▲                                          └──► threads: tasks that are no coroutines, results, names, steps
         └──────────────── Mailbox ◄────────────────┘

The pool counts its places in the main thread: a task is accepted, ends, is followed by the next there. Signals,
events, results, retries and `self.request` are Celery's, since its tracer runs unchanged.

When the worker stops, tasks have `stop_grace_period` seconds to end by themselves. Then they are broken off, say
what has happened to their money, and their messages go back to the queue. What has not begun goes back at once.
"""

import inspect
import itertools
import logging
import os
import resource
import threading
import time
from collections import deque
from contextlib import suppress
from typing import Any
from weakref import WeakSet

from celery import bootsteps
from celery.concurrency.base import BasePool
from celery.concurrency.prefork import _run_ready_callbacks
from celery.worker import state

from workers.pool.execution import CoroutineExecution, Execution, Order, ThreadExecution
from workers.pool.gc_tuning import collect_seldom
from workers.pool.loop import EventLoop
from workers.pool.main_thread import Mailbox

log = logging.getLogger(__name__)

#: Seconds that tasks which were broken off have, when the worker stops, to say what became of them.
REPORT_SECONDS = 5.0


#: What is taken for the number of slots where the pool is not ours.
USUAL_SLOTS = 100

_running: "WeakSet[TaskPool]" = WeakSet()


def slots() -> int:
    """How many tasks this process runs at a time."""
    return sum(pool.limit for pool in _running) or USUAL_SLOTS


class TaskPool(BasePool):  # type: ignore[misc]  # Celery has no types
    """Celery's pool interface over an event loop. `limit` is the number of places: tasks at a time."""

    signal_safe = False
    task_join_will_block = False
    body_can_be_buffer = True

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.executions: dict[int, Execution] = {}
        self.waiting: deque[Execution] = deque()
        self.running = 0
        self.fewest = min(1, self.limit)
        self.stopping = False
        self.retired: list[EventLoop] = []
        self.hub: Any = None
        self._numbers = itertools.count(1)
        self._kinds: dict[str, tuple[Any, type[Execution]]] = {}
        # Celery's signal handlers stop the pool from whatever the main thread is doing.
        self._lock = threading.RLock()

    # Life

    def on_start(self) -> None:
        """Start the loop."""
        allow_sockets(self.limit)
        collect_seldom()
        _running.add(self)
        self.mailbox = Mailbox(inline=bool(self.options.get("threads")))
        self.place = EventLoop(self.app)

    def register_with_event_loop(self, hub: Any) -> None:
        """Have this hub deliver the pool's news; again after each lost connection."""
        self.hub = hub
        self.mailbox.attach(hub)

    def restart(self) -> None:
        """Begin anew on a fresh loop, with fresh connections. What runs ends where it is."""
        with self._lock:
            self.retired.append(self.place)
            self.place = EventLoop(self.app)
            self._kinds.clear()  # tasks may have been loaded anew
        self._end_retired()

    def on_stop(self) -> None:
        """Warm shutdown, and the last step of a cold one: wait for what runs, put back what did not end in time."""
        self._put_back_waiting()
        # In a cold shutdown Celery has cancelled all tasks before it comes here.
        self.wait_until_idle(0.0 if state.should_terminate else self.app.conf.get("worker_stop_grace_period", 0.0))
        if self.executions:
            log.warning("%d tasks are broken off and their messages put back", len(self.executions))
            self._break_off()
        self._end()

    def on_terminate(self) -> None:
        """Cold shutdown: break off what runs, and put it back."""
        self._put_back_waiting()
        self._break_off()
        self._end()

    def wait_until_idle(self, seconds: float) -> None:
        """Wait, at most so long, until nothing runs. Acknowledgements and the transport's timers go on meanwhile."""
        ends = time.monotonic() + seconds
        while self.executions and time.monotonic() < ends:
            self.mailbox.wait(min(0.1, max(0.0, ends - time.monotonic())))
            self._turn()
        self._turn()

    def _turn(self) -> None:
        """One turn of the hub, as far as it concerns the pool: the hub itself stands still while the worker stops."""
        self.mailbox.deliver()
        if self.hub is not None:
            # A signal handler may have interrupted the hub in the middle of its own turn.
            with suppress(Exception):
                self.hub.fire_timers()
            _run_ready_callbacks(self.hub)

    def _break_off(self) -> None:
        for execution in list(self.executions.values()):
            execution.interrupt("stopping")
        self.wait_until_idle(REPORT_SECONDS)
        for execution in list(self.executions.values()):
            if self._ended(execution):  # whatever it is doing: its message must not end with this process
                execution.tell_fate("stopping")

    def _put_back_waiting(self) -> None:
        self.stopping = True
        while self.waiting:
            execution = self.waiting.popleft()
            if self._ended(execution, ran=False):
                execution.tell_fate("stopping")

    def _end(self) -> None:
        self._turn()
        for place in (*self.retired, self.place):
            place.end()
        self._turn()

    def _end_retired(self) -> None:
        used = {execution.place for execution in self.executions.values()}
        for place in [place for place in self.retired if place not in used]:
            self.retired.remove(place)
            threading.Thread(target=place.end, name="end-of-loop", daemon=True).start()

    # Work

    def apply_async(self, target: Any, args: Any = None, kwargs: Any = None, **options: Any) -> Execution:
        """Take a task, which begins when there is a place for it. Celery's own would log the arguments at DEBUG."""
        del kwargs
        name, _, request, *_ = args
        task, kind = self._kind(name)
        # Celery fixes a task's limits when the consumer starts; these are the ones that count now.
        hard, soft = request.get("timelimit") or (None, None)
        order = Order(
            target,
            args,
            on_accepted=options["accept_callback"],
            on_success=options["callback"],
            on_failure=options["error_callback"],
            on_timeout=options["timeout_callback"],
            soft=soft or task.soft_time_limit or self.options.get("soft_timeout"),
            hard=hard or task.time_limit or self.options.get("timeout"),
        )
        execution = kind(next(self._numbers), order, self.mailbox, self._ended)
        with self._lock:
            self.executions[execution.number] = execution
            self.waiting.append(execution)
            self._fill()
        return execution

    def _kind(self, name: str) -> tuple[Any, type[Execution]]:
        """A task, and how it runs."""
        found = self._kinds.get(name)
        if found is None:
            task = self.app.tasks[name]
            kind = CoroutineExecution if inspect.iscoroutinefunction(task.run) else ThreadExecution
            found = self._kinds[name] = task, kind
        return found

    def _fill(self) -> None:
        while self.waiting and self.running < self.limit:
            execution = self.waiting.popleft()
            if execution.fate is not None:  # it was revoked while it waited
                self._ended(execution, ran=False)
                execution.tell_fate(execution.fate)
                continue
            self.running += 1
            execution.start(self.place)

    def _ended(self, execution: Execution, *, ran: bool = True) -> bool:
        with self._lock:
            if self.executions.pop(execution.number, None) is None:
                return False
            self.running -= ran
            self._fill()
        if self.stopping and execution.fate == "revoked":
            # Celery cancels all tasks in a cold shutdown as it does revoked ones; those have been acknowledged, so
            # that to put them back changes nothing.
            execution.fate = "stopping"
        if self.retired:
            self._end_retired()
        return True

    # Controls

    def grow(self, n: int = 1) -> None:
        """More places, from now on."""
        with self._lock:
            self.limit += n
            allow_sockets(self.limit)
            self._fill()

    def shrink(self, n: int = 1) -> None:
        """Fewer places. What runs goes on; the next begin when enough of it has ended."""
        if self.limit - n < self.fewest:
            raise ValueError(f"the pool has {self.limit} places, and at least one must stay")
        self.limit -= n

    def terminate_job(self, pid: int, signal: Any = None) -> None:
        """Break off the task with this number, which Celery knows as its worker_pid."""
        del signal
        execution = self.executions.get(pid)
        if execution is not None:
            execution.interrupt("revoked")

    def _get_info(self) -> dict[str, Any]:
        info: dict[str, Any] = super()._get_info()
        places = (*self.retired, self.place)
        return info | {
            "running": self.running,
            "waiting": len(self.waiting),
            "processes": [os.getpid()],
            "loops": len(places),
            "threads": sum(place.thread_count for place in places),
            "timeouts": (self.options.get("soft_timeout") or 0, self.options.get("timeout") or 0),
        }


def allow_sockets(calls: int) -> None:
    """Raise the process's limit of open files as far as it may, to a few for each call: 1,024 is a common default."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 4 * calls + 1024
    if hard != resource.RLIM_INFINITY and wanted > hard:
        wanted = hard
        if hard < calls + 256:
            log.warning("%d tasks at a time may need more than the %d files that may be open (ulimit -n)", calls, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


class SoftShutdown(bootsteps.StartStopStep):  # type: ignore[misc]  # Celery has no types
    """Lets a soft shutdown hear of the tasks that end during it, and end with the last of them.

    Celery sleeps through it, and then cancels whatever it has not heard of: tasks would be announced as
    cancelled that have long succeeded.
    """

    requires = ("celery.worker.components:Pool",)

    def start(self, worker: Any) -> None:
        """Wait in the pool in place of Celery's sleep."""
        pool = worker.pool
        if not isinstance(pool, TaskPool):
            return

        def wait_for_soft_shutdown() -> None:
            seconds = worker.app.conf.worker_soft_shutdown_timeout
            if seconds > 0 and pool.executions:
                log.warning("soft shutdown: %d tasks have %g s to end", len(pool.executions), seconds)
                pool.wait_until_idle(seconds)

        worker.wait_for_soft_shutdown = wait_for_soft_shutdown
