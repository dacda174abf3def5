"""One live call: admitted within the time that its client waits, made, and settled.

It passes the same admission as a job, as urgent work. A denied job would go back to its queue; a live call waits, up to
`patience` seconds in all. If that is not enough, it fails with the time to try again. A call that fails before the
first byte of its answer is sent to another target, or to the same one after a backoff.

This is the only file of the server that makes calls through tasks/jobs.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass, field, replace
from typing import Any, Final

from limits.admission import settle
from limits.errors import ServerUnavailable
from limits.reservation import Admitted, Denied, Settlement
from limits.reservation import Answer as Admission
from tasks.jobs import outcomes, planning
from tasks.jobs.attempt import Attempt
from tasks.jobs.delivery import Delivery
from tasks.jobs.job import Job
from tasks.jobs.pricing import LookUpFailed
from tasks.jobs.reserving import Revoked
from tasks.jobs.runtime import Runtime
from tasks.jobs.settling import FINISH
from tasks.jobs.state import JobState
from tasks.server import live_errors
from tasks.server.errors import unavailable
from tasks.server.live_response import LiveResponse
from workers.models.routing import NoRoute
from workers.providers.answer import Answer
from workers.providers.errors import ProviderError

#: Seconds beyond its patience that a call waits for Redis to answer.
GRACE: Final = 2.0

#: Seconds for which a failed call's settlement is awaited before another target is asked.
SETTLING: Final = 2.0

#: Settlements under way. asyncio itself holds no reference to its tasks.
_settling: set["asyncio.Task[Any]"] = set()


@dataclass(slots=True)
class LiveCall:
    """A call for `response`, whose client waits up to `patience` seconds in all. Its failures are ApiErrors.

    `gone` returns whether the client has hung up.
    """

    runtime: Runtime
    job: Job
    response: LiveResponse
    patience: float
    gone: Callable[[], Awaitable[bool]]
    denial: Denied | None = None
    delivery: Delivery = field(init=False)

    def __post_init__(self) -> None:
        self.delivery = Delivery(self.runtime, self.job, JobState())

    async def make(self) -> Answer:
        """Make the call. Its settlement goes on after it returns."""
        while True:
            attempt = await self._in_time(self._admitted)
            self.response.attempt = attempt
            try:
                answer = await self.runtime.call(attempt)
            except Revoked:
                continue  # a pause began before the request was written
            except ProviderError as error:
                await self._failed(attempt, error)
            else:
                self._answered(attempt, answer)
                return answer

    async def _in_time(self, step: Callable[[], Coroutine[Any, Any, Attempt]]) -> Attempt:
        """What `step` returns. ApiError if that takes longer than the time that is left, as when Redis hangs."""
        began = time.monotonic()
        task = asyncio.ensure_future(step())
        try:
            await asyncio.wait({task}, timeout=self.patience + GRACE)
            if task.done():
                return task.result()
            if self.denial is not None:
                raise live_errors.denied(self.denial, self._failure)
            raise unavailable("The Redis server does not answer; try again soon.")
        finally:
            if not task.done():
                task.cancel()  # gives back what it has reserved
                _keep(task)
            self.patience = max(0.0, self.patience - (time.monotonic() - began))

    async def _admitted(self) -> Attempt:
        """The next attempt, admitted and ready to be sent."""
        ends = time.monotonic() + self.patience
        await self.runtime.pauses.ready()
        while True:
            if self.runtime.pauses.of(self.job):
                raise live_errors.paused(self.job.workflow)
            left = max(0.0, ends - time.monotonic())
            attempt = await self._planned()
            match answer := await self._ask(attempt, left):
                case Admitted():
                    try:
                        await self.runtime.wait_until_sent(attempt)
                    except Revoked:
                        continue
                    if attempt.wait and await self.gone():
                        await self.runtime.release(attempt)
                        raise live_errors.hung_up()
                    return attempt
                case Denied():
                    await self._wait(answer, left)
                case _:
                    raise live_errors.impossible(answer)

    async def _planned(self) -> Attempt:
        try:
            attempt = await planning.plan(self.delivery)
        except LookUpFailed as error:
            raise live_errors.no_price(str(error)) from None
        except NoRoute as error:
            raise live_errors.no_route(error, self.job) from None
        attempt.sink = self.response
        return attempt

    async def _ask(self, attempt: Attempt, left: float) -> Admission:
        attempt.ask = replace(attempt.ask, urgent=True, max_wait=left)
        return await self.runtime.admit(attempt)

    async def _wait(self, denied: Denied, left: float) -> None:
        """Wait until this call may ask again. ApiError if its client doesn't wait that long."""
        if denied.retry_in is None or denied.retry_in > left:
            if denied.reason == "not_before":  # nothing but its own failure holds it up
                raise live_errors.failed(self._failure)
            raise live_errors.denied(denied, self._failure)
        self.denial = denied
        await asyncio.sleep(denied.retry_in)
        if await self.gone():
            raise live_errors.hung_up()

    async def _failed(self, attempt: Attempt, error: ProviderError) -> None:
        """Settle a failed attempt. ApiError if there will be no other."""
        fail = await self.delivery.failed(attempt, error)
        closing = _counted(outcomes.of_failure(attempt, error))
        self.response.cost += closing.amount
        settling = self._settle(attempt, closing)
        if fail is not None or self.response.begun:
            raise live_errors.failed(error)
        await asyncio.wait({settling}, timeout=SETTLING)

    @property
    def _failure(self) -> ProviderError | None:
        return self.delivery.failure[1] if self.delivery.failure else None

    def _answered(self, attempt: Attempt, answer: Answer) -> None:
        if answer.usage is not None:
            self.runtime.ratios.observe(attempt.route.target, attempt.estimate, answer.usage)
        closing = _counted(outcomes.of_answer(attempt, answer))
        self.response.cost += closing.amount
        self._settle(attempt, closing)

    def _settle(self, attempt: Attempt, closing: Settlement) -> "asyncio.Task[None]":
        """Settle a call that has ended, without letting its client wait."""
        self.runtime.leases.reservations.discard(attempt.ask.id)
        return _keep(asyncio.create_task(_settled(self.runtime, attempt.ask.id, closing)))


def _counted(closing: Settlement) -> Settlement:
    """The settlement, counted as a live call in the ledger as well."""
    return replace(closing, columns={**closing.columns, "server_calls": 1})


async def _settled(runtime: Runtime, reservation: str, closing: Settlement) -> None:
    """Settle a reservation. If Redis stays away, it ends with its lease, and its money is presumed spent."""
    try:
        await runtime.server.run(settle(runtime.keys, reservation, runtime.owner, closing), FINISH)
    except ServerUnavailable:
        pass
    finally:
        runtime.settled(reservation)


def _keep(task: "asyncio.Task[Any]") -> "asyncio.Task[Any]":
    """Hold a reference to a task until it ends, and retrieve its error."""
    _settling.add(task)
    task.add_done_callback(_end)
    return task


def _end(task: "asyncio.Task[Any]") -> None:
    _settling.discard(task)
    if not task.cancelled():
        task.exception()


async def all_settled(seconds: float) -> None:
    """Wait until the calls that have ended are settled, for at most `seconds`."""
    if _settling:
        await asyncio.wait(_settling, timeout=seconds)
