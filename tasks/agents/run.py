"""One delivery of an agent's job: replayed from its journal, run on, and ended or put back into its queue.

    open the journal ─► run the coroutine ─► it returns or raises ─► result line
                             │  each call and step: found in the journal, else made and written there
                             └► Suspended: what is in flight finishes and is written ─► back into the queue

Calls and steps run in tasks of their own, which no timeout of the agent reaches: what is paid for is written down.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import suppress
from typing import Any, NoReturn

from celery.exceptions import SoftTimeLimitExceeded

from tasks.agents import calls as work
from tasks.agents import registry
from tasks.agents.errors import GRAVITY, Crash, Halted, Stop, Superseded, Suspended
from tasks.agents.journal import Entry, Journal
from tasks.agents.json_values import Unwritable, digest, encode, told
from tasks.agents.llm import Llm
from tasks.agents.outcome import answered, failed
from tasks.agents.position import Branch, current
from tasks.agents.stored_bodies import AWAY
from tasks.jobs import runners
from tasks.jobs.job import Job
from tasks.jobs.runners import Attempts
from tasks.jobs.runtime import Runtime
from tasks.jobs.spending_cap import SpendingCap
from tasks.jobs.state import JobState
from tasks.jobs.storage import StorageError
from tasks.jobs.store import Outcome
from workers.models.routing import NoRoute, NotConfigured
from workers.pool.coroutine import worker_stops
from workers.request import Snooze

log = logging.getLogger(__name__)

Act = Callable[[str, str], Coroutine[Any, Any, Entry]]
"""How a call or a step is made: `act(position, digest)` gives its entry, once that is written."""

#: Seconds, beside thrice its own time, in which an agent must give up again what it has given up before.
GIVEN_UP = 60.0

#: What a batch that runs no more jobs says to an agent in the middle of its calls.
_STOPPED = {
    "cancelling": ("batch_cancelled", "the batch was cancelled while this job ran"),
    "expiring": ("batch_expired", "the batch's deadline passed while this job ran"),
}


async def run(runtime: Runtime, job: Job, state: JobState, attempts: Attempts) -> dict[str, Any] | None:
    """Run the agent's job and end it; Snooze where it must wait in its queue. Returns what `Runtime.finish` does.

    NotConfigured if a batch's line names an agent that this worker doesn't have.
    """
    try:
        agent = registry.find(runtime.settings, job.line.agent, job.workflow)
    except NoRoute as exc:
        if job.batch and isinstance(exc, NotConfigured):
            raise
        return await runtime.finish(job, Outcome.error(job, "invalid_request", str(exc)), state)
    journal = await Journal.open(runtime.server, runtime.keys, job, state.owner, runtime.settings.storage)
    outcome = await Run(runtime, job, journal, attempts).to_end(agent.function, state)
    line = await runtime.finish(job, outcome, state)
    if outcome.ok or job.batch is None:  # the failed job of a batch may get another round, which goes on from here
        await journal.close()
    return line


runners.register("agent", run)


class Run:
    """The run of one agent's coroutine in one delivery."""

    def __init__(self, runtime: Runtime, job: Job, journal: Journal, attempts: Attempts) -> None:
        self.runtime = runtime
        self.job = job
        self.journal = journal
        self.attempts = attempts
        self.calls = 0
        self.states = {place: JobState.from_header(header) for place, header in journal.record.open.items()}
        self.stop: Stop | None = None
        self._workflow = runtime.settings.workflow(job.workflow)
        self._root = Branch("", f"{job.batch}:{job.number}" if job.batch else job.task_id, journal.record.born)
        self._closing: Halted | None = None
        self._flights: set[asyncio.Task[Entry]] = set()
        self._stopped = asyncio.Event()
        self._broken_off = False
        self._over = False
        self.spending_cap: SpendingCap | None = None
        if self._workflow.max_nano is not None:
            held = {place: state.cost for place, state in self.states.items()}
            self.spending_cap = SpendingCap(self._workflow.max_nano, journal.record.cost, held)

    @property
    def cost(self) -> int:
        """What the job has cost in this round so far, in n$."""
        return self.journal.record.cost + sum(state.cost for state in self.states.values())

    # From its beginning to its end

    async def to_end(self, function: registry.Coroutine, state: JobState) -> Outcome:
        """Run the coroutine; how the job ends, or Snooze."""
        try:
            await self.journal.load()
        except StorageError as exc:
            self._halt(Suspended(AWAY, f"its journal waits for the storage: {exc}"))
        except Halted as halted:
            self._halt(halted)
        if self.stop is not None:
            return await self._stopped_by(self.stop, state)
        loop = asyncio.get_running_loop()
        main = loop.create_task(self._main(function))
        timer = None
        if self._workflow.max_seconds is not None:
            timer = loop.call_later(self._seconds_left(), self._time_is_up, main)
        try:
            try:
                await asyncio.wait((main,))
            except SoftTimeLimitExceeded:
                # What it has done is kept, so that the next delivery comes further.
                self._halt(Suspended(0.0, "its soft time limit passed"))
                main.cancel()
            while self._flights or not main.done():
                await asyncio.wait((main, *self._flights))
        except BaseException:
            # The worker stops, or the job was revoked: nothing goes on without it.
            self._broken_off = True
            tasks = (main, *self._flights)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            raise
        finally:
            self._over = True
            if timer is not None:
                timer.cancel()
        return await self._ending(main, state)

    async def _main(self, function: registry.Coroutine) -> bytes:
        self._root.enter()
        try:
            result = await function(self.job.line.body, Llm(self))
        except (SystemExit, KeyboardInterrupt) as exc:
            # In a task these would end the worker's loop.
            raise RuntimeError(f"the agent raised {type(exc).__name__}") from exc
        return encode(result)

    async def _ending(self, main: "asyncio.Task[bytes]", state: JobState) -> Outcome:
        error = None if main.cancelled() else main.exception()
        if self.stop is not None:
            return await self._stopped_by(self.stop, state)
        if main.cancelled():
            return failed(self, "agent_error", "the agent was cancelled by its own code")
        if isinstance(error, Unwritable):
            return failed(self, "agent_error", f"the agent returned what JSON cannot hold: {error}")
        if error is not None:
            log.warning("job %s: its agent raised %s", self.job.id, type(error).__name__)
            return failed(self, "agent_error", told(error))
        return answered(self, main.result())

    async def _stopped_by(self, stop: Stop, state: JobState) -> Outcome:
        match stop:
            case Superseded():
                raise Snooze(self.runtime.lease, "another delivery of this job is running", state.to_header())
            case Crash() as crash:
                raise crash.error
            case Suspended() as wait:
                headers = {place: each.to_header() for place, each in self.states.items()}
                await self.journal.put_off(wait.seconds, wait.reason, headers)
                raise Snooze(wait.seconds, wait.reason, state.to_header())
            case Halted() as halted:
                return failed(self, halted.code, halted.message)
        raise stop

    # What every call and step goes through

    async def once(self, kind: str, name: str, request: Any, act: Act) -> Entry:
        """The entry of what is asked for here: from the journal, else from `act(position, digest)`, run to its end."""
        if work.in_step.get():
            raise RuntimeError("a step makes no calls: it is not run again in a replay; call before or after it")
        branch = current()
        if self.stop is not None:
            raise self.stop
        if self._over:
            raise RuntimeError("the agent has ended: its llm makes no more calls")
        position, asked = branch.next(), digest(kind, name, request)
        try:
            entry = self.journal.find(position, kind, name, asked)
        except Halted as halted:
            raise self._halt(halted) from None
        if (seconds := self.journal.given_up.get(position)) is not None:
            await self._given_up_again(position, seconds)
        if entry is not None:
            await asyncio.sleep(0)  # a long journal must not hold up the worker's other jobs
        else:
            self._go_on()
            entry = await self._made(position, act(position, asked))
        branch.now = max(branch.now, entry.at)
        return entry

    async def _given_up_again(self, position: str, seconds: float) -> NoReturn:
        """Bring nothing until the agent's own timeout gives this up, as it did before after `seconds`."""
        with suppress(TimeoutError):
            async with asyncio.timeout(3 * seconds + GIVEN_UP):
                await self._stopped.wait()
        if self.stop is None:
            words = f"at position {position} of its journal the agent gave up after {seconds:g} s, and now it waits on"
            self._halt(Halted("agent_changed", words))
        assert self.stop is not None
        raise self.stop

    async def _made(self, position: str, act: Coroutine[Any, Any, Entry]) -> Entry:
        """Make a call or a step. An agent that stops waiting for it has given it up: it ends all the same."""
        flight = asyncio.create_task(self._flight(act))
        self._flights.add(flight)
        flight.add_done_callback(self._landed)
        began = time.monotonic()
        try:
            return await asyncio.shield(flight)
        except asyncio.CancelledError:
            if self.stop is None and not self._broken_off:
                self.journal.give_up(position, time.monotonic() - began)
            raise

    def _go_on(self) -> None:
        """Whether something new may begin."""
        if self._closing is not None:
            raise self._halt(self._closing)
        if worker_stops():
            raise self._halt(Suspended(0.0, "the worker stops"))

    async def _flight(self, act: Awaitable[Entry]) -> Entry:
        try:
            return await act
        except Stop as stop:
            raise self._halt(stop) from None
        except Exception as exc:  # noqa: BLE001 - whatever it is, run_job decides about it and not the agent
            raise self._halt(Crash(exc)) from None

    def _landed(self, flight: "asyncio.Task[Entry]") -> None:
        self._flights.discard(flight)
        if not flight.cancelled():
            flight.exception()  # it has been dealt with; asyncio need not tell it again

    def _halt(self, stop: Stop) -> Stop:
        """End this run. Of several reasons the gravest counts, and of several waits the shortest."""
        if isinstance(stop, Suspended) and stop.seconds >= self._seconds_left():
            stop = self._too_long()
        now = self.stop
        shorter = isinstance(now, Suspended) and isinstance(stop, Suspended) and stop.seconds < now.seconds
        if now is None or GRAVITY[type(stop)] > GRAVITY[type(now)] or shorter:
            self.stop = stop
        self._stopped.set()
        return stop

    async def write(
        self, position: str, entry: Entry, body: bytes, *, settlement: bytes = b"", state: JobState | None = None
    ) -> Entry:
        """Write an entry, and take note of what the batch says."""
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
            raise Suspended(AWAY, f"an answer waits in its journal for the storage: {self.journal.refused}")
        return written

    # Caps

    def count_call(self) -> None:
        """One more call; Halted where the workflow allows no more."""
        most = self._workflow.max_calls
        if most is not None and self.calls >= most:
            raise self._halt(Halted("max_calls", f"stopped at the max_calls of its workflow, {most}"))
        self.calls += 1

    def _seconds_left(self) -> float:
        most = self._workflow.max_seconds
        return float("inf") if most is None else max(0.0, self.journal.record.began + most - time.time())

    def _too_long(self) -> Halted:
        most = self._workflow.max_seconds or 0.0
        return Halted("max_seconds", f"stopped at the max_seconds of its workflow, {most:g}")

    def _time_is_up(self, main: "asyncio.Task[bytes]") -> None:
        self._halt(self._too_long())
        main.cancel()

    def fork(self) -> tuple[Branch, str]:
        """The branch that runs here, and a position in it for what is to run beside it."""
        branch = current()
        return branch, branch.next()
