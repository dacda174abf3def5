"""The state of one run of an agent: its journal, its caps, and the reason why it stops.

Every call and step goes through `Run.once`, which finds it in the journal, or makes it and writes it there. Each is
made in a task of its own, which no timeout of the agent's can cancel: what is paid for is always written down.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import suppress
from contextvars import ContextVar
from typing import Any, Final, NoReturn

from tasks.agents.errors import GRAVITY, Crash, Halted, Stop, Suspended
from tasks.agents.journal import Journal
from tasks.agents.journal_record import Entry
from tasks.agents.json_values import digest
from tasks.agents.position import Branch, current
from tasks.agents.stored_bodies import RETRY_AFTER
from tasks.jobs.delivery import Delivery
from tasks.jobs.runners import Attempts
from tasks.jobs.spending_cap import SpendingCap
from tasks.jobs.state import JobState
from workers.pool.coroutine import worker_is_stopping

Act = Callable[[str, str], Coroutine[Any, Any, Entry]]
"""Makes a call or a step: `act(position, digest)` writes its entry and returns it."""

#: A call that the agent gave up once must be given up in every replay: within three times the seconds that the agent
#: waited for it then, plus these.
GIVE_UP_MARGIN: Final = 60.0

#: The error of an agent whose batch is stopped while it makes calls: code and message by the batch's status.
_STOPPED: Final = {
    "cancelling": ("batch_cancelled", "the batch was cancelled while this job ran"),
    "expiring": ("batch_expired", "the batch's deadline passed while this job ran"),
}

#: Whether the running task is a step. A replay doesn't run steps again, so a step must not make calls.
in_step: ContextVar[bool] = ContextVar("overnight_in_step", default=False)


class Run:
    """One run of an agent's coroutine, in one delivery of its job.

    `calls` counts the calls that the agent has asked for in this run. `states` holds the state of each unfinished
    call by its position. `stop` is the reason why the run ends early, None while it goes on.
    """

    def __init__(self, delivery: Delivery, journal: Journal, attempts: Attempts) -> None:
        job = delivery.job
        self.delivery = delivery
        self.runtime = delivery.runtime
        self.job = job
        self.journal = journal
        self.attempts = attempts
        self.workflow = delivery.workflow
        self.calls = 0
        self.states = {position: JobState.from_header(header) for position, header in journal.record.open.items()}
        self.root = Branch("", f"{job.batch}:{job.number}" if job.batch else job.task_id, journal.record.born)
        self.stop: Stop | None = None
        self.flights: set[asyncio.Task[Entry]] = set()
        self.over = False
        self.abandoned = False
        self._stopped = asyncio.Event()
        self._closing: Halted | None = None
        self.spending_cap: SpendingCap | None = None
        if self.workflow.max_nano is not None:
            held = {position: state.cost for position, state in self.states.items()}
            self.spending_cap = SpendingCap(self.workflow.max_nano, journal.record.cost, held)

    @property
    def cost(self) -> int:
        """The cost of the job in this round so far, in n$."""
        return self.journal.record.cost + sum(state.cost for state in self.states.values())

    # Calls and steps

    async def once(self, kind: str, name: str, request: Any, act: Act) -> Entry:
        """The entry of this call or step: from the journal if it is there, otherwise from `act`."""
        if in_step.get():
            raise RuntimeError("a step makes no calls: it is not run again in a replay; call before or after it")
        branch = current()
        if self.stop is not None:
            raise self.stop
        if self.over:
            raise RuntimeError("the agent has ended: its llm makes no more calls")
        position, asked = branch.next(), digest(kind, name, request)
        try:
            entry = self.journal.find(position, kind, name, asked)
        except Halted as halted:
            raise self.halt(halted) from None
        if (seconds := self.journal.given_up.get(position)) is not None:
            await self._give_up_again(position, seconds)
        if entry is not None:
            await asyncio.sleep(0)  # let the worker's other jobs run during the replay of a long journal
        else:
            self._check_may_start()
            entry = await self._made(position, act(position, asked))
        branch.now = max(branch.now, entry.at)
        return entry

    async def _give_up_again(self, position: str, seconds: float) -> NoReturn:
        """Wait until the agent's own timeout gives this call up, as it did in an earlier run after `seconds`."""
        with suppress(TimeoutError):
            async with asyncio.timeout(3 * seconds + GIVE_UP_MARGIN):
                await self._stopped.wait()
        if self.stop is None:
            words = f"at position {position} of its journal the agent gave up after {seconds:g} s, and now it waits on"
            self.halt(Halted("agent_changed", words))
        assert self.stop is not None
        raise self.stop

    async def _made(self, position: str, act: Coroutine[Any, Any, Entry]) -> Entry:
        """Make a call or a step. If the agent stops waiting for it, it runs to its end all the same."""
        flight = asyncio.create_task(self._flight(act))
        self.flights.add(flight)
        flight.add_done_callback(self._landed)
        began = time.monotonic()
        try:
            return await asyncio.shield(flight)
        except asyncio.CancelledError:
            if self.stop is None and not self.abandoned:
                self.journal.give_up(position, time.monotonic() - began)
            raise

    def _check_may_start(self) -> None:
        """Raise the reason why no new call may start, if there is one."""
        if self._closing is not None:
            raise self.halt(self._closing)
        if worker_is_stopping():
            raise self.halt(Suspended(0.0, "the worker stops"))

    async def _flight(self, act: Awaitable[Entry]) -> Entry:
        try:
            return await act
        except Stop as stop:
            raise self.halt(stop) from None
        except Exception as exc:  # noqa: BLE001 - tasks/jobs/messages.py handles it; the agent must not catch it
            raise self.halt(Crash(exc)) from None

    def _landed(self, flight: "asyncio.Task[Entry]") -> None:
        self.flights.discard(flight)
        if not flight.cancelled():
            flight.exception()  # mark it as retrieved, or asyncio logs it

    async def write(
        self, position: str, entry: Entry, body: bytes, *, settlement: bytes = b"", state: JobState | None = None
    ) -> Entry:
        """Write an entry to the journal. If the batch is being stopped, no new call may start after it."""
        calls, throttles = (state.calls, state.throttles) if state else (0, 0)
        written, status = await self.journal.write(
            position, entry, body, settlement=settlement, calls=calls, throttles=throttles
        )
        self.states.pop(position, None)
        if self.spending_cap is not None:
            self.spending_cap.pay(position, entry.cost)
        if status in _STOPPED:
            self._closing = Halted(*_STOPPED[status])
        if self.journal.refused:
            raise Suspended(RETRY_AFTER, f"an answer waits in its journal for the storage: {self.journal.refused}")
        return written

    # Ends

    def halt(self, stop: Stop) -> Stop:
        """End this run for `stop`. Of several reasons the gravest counts, of several waits the shortest."""
        if isinstance(stop, Suspended) and stop.seconds >= self.seconds_left():
            stop = self.out_of_time()
        now = self.stop
        shorter = isinstance(now, Suspended) and isinstance(stop, Suspended) and stop.seconds < now.seconds
        if now is None or GRAVITY[type(stop)] > GRAVITY[type(now)] or shorter:
            self.stop = stop
        self._stopped.set()
        return stop

    # Caps

    def count_call(self) -> None:
        """Count one more call; Halted if the workflow's max_calls is reached."""
        most = self.workflow.max_calls
        if most is not None and self.calls >= most:
            raise self.halt(Halted("max_calls", f"stopped at the max_calls of its workflow, {most}"))
        self.calls += 1

    def seconds_left(self) -> float:
        """Seconds until the workflow's max_seconds is reached; infinity if it has none."""
        most = self.workflow.max_seconds
        return float("inf") if most is None else max(0.0, self.journal.record.began + most - time.time())

    def out_of_time(self) -> Halted:
        """The end of a job that has reached its workflow's max_seconds."""
        most = self.workflow.max_seconds or 0.0
        return Halted("max_seconds", f"stopped at the max_seconds of its workflow, {most:g}")

    def fork(self) -> tuple[Branch, str]:
        """The running branch, and a position in it at which branches start to run in parallel."""
        branch = current()
        return branch, branch.next()
