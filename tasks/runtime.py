"""What a worker process needs to run jobs: its connections, and the steps of a job's way over them.

There is one runtime an event loop. Everything in it is shared by all jobs in flight: the Redis connection (its
round trips are pooled), a client a provider, and one renewer for all leases.
"""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, ClassVar
from uuid import uuid4
from weakref import WeakKeyDictionary

import orjson
import redis.asyncio

from limits.admission import (
    Admitted,
    Ask,
    Level,
    Settlement,
    Throttle,
    admit,
    release,
    renew,
    sent,
    settle,
    settlement_json,
)
from limits.admission import (
    Answer as Admission,
)
from limits.connection import AsyncServer
from limits.counting import Estimate, Usage, admission, refused, settlement
from limits.errors import ServerUnavailable
from limits.keys import Keys
from limits.provider import latch
from tasks import job as jobs
from tasks import retry, store
from tasks.job import Job
from tasks.memory import Memory
from tasks.store import LEASE, Begun, Ending
from workers import budgets, prices, tokens
from workers.celery import current_settings
from workers.providers import bodies, connect
from workers.providers.answer import Answer, Provider
from workers.providers.errors import AccountBlocked, ProviderError, Throttled, Unavailable
from workers.providers.headers import RateLimits
from workers.ratios import Ratios
from workers.routing import NoRoute, Routes, Way
from workers.server import server_url
from workers.settings import Settings

log = logging.getLogger(__name__)

#: Seconds between two exchanges of token ratios, and two looks at shared prices.
SYNC_EVERY, PRICES_EVERY = 5.0, 60.0

#: The ceiling of an answer where neither job nor workflow says one. Where a budget applies it is sent with the
#: job, so that what is held is a bound; else it only paces the quota.
DEFAULT_OUTPUT = 4_096

#: How long the end of a job is tried to be recorded, in seconds: its answer is paid for, and is in no other place.
FINISH = 3600.0

#: The most that a reservation may lie ahead, in seconds: so long a job waits in its worker instead of its queue.
MAX_WAIT = 5.0


@dataclass(slots=True)
class Attempt:
    """One attempt at a job: what is asked of the admission, and which way it was given."""

    job: Job
    body: dict[str, Any]
    ways: list[Way]
    estimates: dict[str, Estimate]
    ask: Ask
    way: Way
    number: int
    wait: float = 0.0
    is_sent: bool = False
    sent_at: float = field(default_factory=time.monotonic)

    def admitted(self, admitted: Admitted) -> None:
        """Note which way the admission has chosen."""
        self.way = self.ways[admitted.candidate]
        self.wait = admitted.wait
        self.is_sent = admitted.sent

    @property
    def estimate(self) -> Estimate:
        """The estimate of this attempt's target."""
        return self.estimates[self.way.target]


class Revoked(Exception):  # noqa: N818 - it is no error: the reservation is gone, and another is asked for
    """The reservation did not live until the call could go out."""


class Runtime:
    """The connections of one event loop, and the steps of a job over them."""

    _of_loop: ClassVar["WeakKeyDictionary[asyncio.AbstractEventLoop, Runtime]"] = WeakKeyDictionary()

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.lease = settings.visibility_timeout  # a job's lease ends when its message goes to another worker
        self.keys = Keys(settings.namespace)
        url = server_url(settings)
        self.server = AsyncServer(url)
        self.client = redis.asyncio.Redis.from_url(url)
        self.routes = Routes(settings)
        self.ratios = Ratios(self.keys.token_ratios)
        self.owner = uuid4().hex
        self.providers: dict[str, Provider] = {}
        self.leases: dict[str, tuple[Job, str]] = {}
        self.reservations: set[str] = set()
        self.background: list[asyncio.Task[None]] = []

    @classmethod
    async def current(cls) -> "Runtime":
        """The runtime of the running loop, made when it is first asked for."""
        loop = asyncio.get_running_loop()
        found = cls._of_loop.get(loop)
        if found is None:
            found = cls._of_loop[loop] = cls(current_settings())
            found.background = [
                loop.create_task(found._every(found.lease / 3, found._renew)),
                loop.create_task(found._every(SYNC_EVERY, found._sync)),
                loop.create_task(found._every(PRICES_EVERY, found._prices)),
            ]
        return found

    async def close(self) -> None:
        """Close every connection."""
        for task in self.background:
            task.cancel()
        await asyncio.gather(*self.background, return_exceptions=True)
        for provider in self.providers.values():
            await provider.close()
        await self.server.aclose()
        await self.client.aclose()
        Runtime._of_loop.pop(asyncio.get_running_loop(), None)

    # A job's way, step by step

    async def begin(self, job: Job, memory: Memory) -> Begun:
        """Ask whether this delivery may run the job."""
        return await self.server.run(store.begin(self.keys, job, memory.owner, self.lease))

    @asynccontextmanager
    async def leased(self, job: Job, memory: Memory) -> AsyncIterator[None]:
        """Keep the job's lease renewed; give it up when the job goes back into its queue."""
        self.leases[job.id] = (job, memory.owner)
        try:
            yield
        except BaseException:
            # The lease ends by itself if the server cannot be told now.
            with_server = self.server.run(store.leave(self.keys, job, memory.owner))
            await asyncio.gather(with_server, return_exceptions=True)
            raise
        finally:
            self.leases.pop(job.id, None)

    def prepare(self, job: Job, memory: Memory, avoid: Collection[str]) -> Attempt:
        """What to ask of the admission for the next attempt; NoRoute where nothing can take the job."""
        url, body = job.line.url, job.line.body
        every = self.routes.ways(job.line.model, url)
        ways = self.routes.order(every, avoid=avoid) or self.routes.order(every)
        workflow = self.settings.workflow(job.workflow)
        over = budgets.windows(self.settings, job.workflow, job.batch, time.time())
        output = workflow.default_max_tokens or DEFAULT_OUTPUT
        if (over or workflow.default_max_tokens) and bodies.output_ceiling(url, body) is None:
            body = bodies.with_output_ceiling(url, body, output, model=ways[0].model)
        estimates = {}
        for way in ways:
            if way.target not in estimates:
                estimates[way.target] = tokens.estimate(
                    url,
                    body,
                    model=way.target,
                    output_default=output,
                    ratios=self.ratios,
                    window=(way.rates and way.rates.window) or tokens.WINDOW,
                )
            if over and way.rates is None:
                raise NoRoute(
                    f"{way.target} has no price, and a budget applies: set input_usd_per_mtok and output_usd_per_mtok"
                )
        ask = Ask(
            id=uuid4().hex,
            owner=self.owner,
            candidates=tuple(way.candidate(estimates[way.target]) for way in ways),
            budgets=over,
            max_wait=MAX_WAIT,
            lease=max(LEASE, self.lease),
            row=orjson.dumps([job.workflow, job.batch or ""]).decode(),
            retry=memory.attempts > 0,
            urgent=workflow.priority == "urgent",
            send_at_once=True,
        )
        return Attempt(job, body, ways, estimates, ask, ways[0], memory.attempts + 1)

    async def admit(self, attempt: Attempt) -> Admission:
        """Ask for a reservation."""
        answer = await self.server.run(admit(self.keys, attempt.ask))
        if isinstance(answer, Admitted):
            self.reservations.add(attempt.ask.id)
        return answer

    async def depart(self, attempt: Attempt) -> None:
        """Wait until the call may go out; Revoked where its reservation was taken back meanwhile."""
        try:
            while not attempt.is_sent:
                await asyncio.sleep(attempt.wait)
                departure = await self.server.run(sent(self.keys, attempt.ask.id, self.owner))
                if departure.verdict == "go":
                    attempt.is_sent = True
                elif departure.verdict == "wait" and departure.wait <= MAX_WAIT:
                    attempt.wait = departure.wait
                else:
                    raise Revoked(departure.reason)  # noqa: TRY301 - gives the reservation back on its way
        except BaseException:
            await self.release(attempt)
            raise

    async def release(self, attempt: Attempt) -> None:
        """Give a reservation back that was not used; by itself it ends with its lease."""
        self.reservations.discard(attempt.ask.id)
        await asyncio.gather(self.server.run(release(self.keys, attempt.ask.id, self.owner)), return_exceptions=True)

    async def call(self, attempt: Attempt) -> Answer:
        """Make the call."""
        way = attempt.way
        settings = self.settings.providers[way.provider]
        attempt.sent_at = time.monotonic()
        return await self.provider(way.provider).call(
            attempt.job.line.url,
            attempt.body,
            model=way.model,
            key=settings.keys()[way.key] if settings.key_count else "",
        )

    async def settle_failure(self, attempt: Attempt, error: ProviderError, decision: retry.Decision) -> int:
        """Close the reservation of a call that brought no answer, and tell everyone what it showed.

        Returns what it may have cost, in n$.
        """
        self.reservations.discard(attempt.ask.id)
        closing = failure_settlement(attempt, error, None if isinstance(decision, retry.Fail) else decision.seconds)
        await self.server.run(settle(self.keys, attempt.ask.id, self.owner, closing))
        if isinstance(error, AccountBlocked):
            words = f"{error.code}: {error.advice}"
            if await self.server.run(latch(self.keys, attempt.way.account, words)):
                log.error("account %s is blocked until someone clears it: %s", attempt.way.account, words)
        return closing.amount

    async def finish(self, job: Job, ending: Ending, memory: Memory) -> dict[str, Any] | None:
        """Record how the job ended; its result line where the job has no batch to write it."""
        await self.server.run(
            store.finish(self.keys, job, ending, calls=memory.calls, throttles=memory.throttles), FINISH
        )
        if job.batch is not None:
            return None
        line: dict[str, Any] = orjson.loads(ending.line)
        return line

    # What the decisions need to know

    def max_attempts(self, job: Job) -> int:
        """How many failures end the job."""
        return self.settings.workflow(job.workflow).max_attempts

    def others(self, attempt: Attempt, avoid: Collection[str]) -> bool:
        """Whether a target is left that has not failed in this delivery."""
        tried = {*avoid, attempt.way.target}
        return any(way.target not in tried for way in self.routes.ways(attempt.job.line.model, attempt.job.line.url))

    def provider(self, name: str) -> Provider:
        """The provider's client, opened at its first call."""
        found = self.providers.get(name)
        if found is None:
            settings = self.settings.providers[name]
            found = self.providers[name] = connect(
                name,
                settings.api,
                settings.base_url,
                settings.timeout,
                api_version=settings.api_version,
                counting=settings.counting_name,
            )
        return found

    # Endings

    def answered(self, attempt: Attempt, answer: Answer, memory: Memory) -> Ending:
        """The job's end with an answer."""
        way, estimate = attempt.way, attempt.estimate
        usage = answer.usage or Usage(estimate.input, output=estimate.output or 0)
        if answer.usage is not None:
            self.ratios.observe(way.target, estimate, answer.usage)
        amount = _amount(way, estimate, answer.usage)
        costs = settlement(way.profile, estimate, usage) if answer.usage else admission(way.profile, estimate)
        self.reservations.discard(attempt.ask.id)
        cost = memory.cost + amount
        line = jobs.result_line(
            attempt.job.result_id,
            attempt.job.line.custom_id,
            response={"status_code": answer.status, "request_id": answer.request_id, "body": answer.body},
            error=None,
            story={
                "provider": way.provider,
                "model": way.model,
                "attempts": attempt.number,
                "cost_usd": cost / budgets.NANO,
                "seconds": round(answer.seconds, 3),
            },
        )
        closing = Settlement(
            amount=amount,
            costs=tuple(charge.costs for charge in way.charges(costs)),
            columns={"calls": 1, "input_tokens": usage.input, "output_tokens": usage.output},
            levels=levels(way, answer.limits),
        )
        return Ending(
            ok=True,
            line=jobs.encode(line),
            cost=cost,
            input_tokens=usage.input,
            output_tokens=usage.output,
            settlement=settlement_json(attempt.ask.id, self.owner, closing),
        )

    def failed(self, attempt: Attempt, error: ProviderError, fail: retry.Fail, memory: Memory) -> Ending:
        """The job's end with a failure."""
        self.reservations.discard(attempt.ask.id)
        closing = failure_settlement(attempt, error, None)
        cost = memory.cost + closing.amount
        line = jobs.result_line(
            attempt.job.result_id,
            attempt.job.line.custom_id,
            response=None
            if error.status is None
            else {"status_code": error.status, "request_id": error.request_id, "body": None},
            error=jobs.error_object(fail.code, fail.message),
            story={
                "provider": attempt.way.provider,
                "model": attempt.way.model,
                "attempts": attempt.number,
                "cost_usd": cost / budgets.NANO,
                "seconds": round(time.monotonic() - attempt.sent_at, 3),
            },
        )
        return Ending(
            ok=False,
            line=jobs.encode(line),
            cost=cost,
            settlement=settlement_json(attempt.ask.id, self.owner, closing),
        )

    # What goes on beside the jobs

    async def _every(self, seconds: float, step: Any) -> None:
        """Run a step now and then, whatever befalls one run of it."""
        while True:
            try:
                await step()
            except (ServerUnavailable, redis.RedisError, OSError) as exc:
                log.warning("%s is put off: %s", step.__name__.strip("_"), exc)
            except Exception:
                log.exception("%s failed", step.__name__.strip("_"))
            await asyncio.sleep(seconds)

    async def _renew(self) -> None:
        """Renew the leases of all jobs in flight, and of what is reserved for them."""
        held = list(self.reservations)
        waits: list[Any] = [
            self.server.run(store.renew(self.keys, job, owner, self.lease)) for job, owner in list(self.leases.values())
        ]
        if held:
            waits.append(self.server.run(renew(self.keys, held, self.owner, max(LEASE, self.lease))))
        await asyncio.gather(*waits)

    async def _sync(self) -> None:
        """Share what was learnt of the models' tokens."""
        await self.ratios.sync(self.client)

    async def _prices(self) -> None:
        """Take over the prices that submits have shared."""
        shared = await prices.fetch(self.client, self.keys.prices)
        if shared != self.routes.prices:
            self.routes = Routes(self.settings, shared)


def failure_settlement(attempt: Attempt, error: ProviderError, pause: float | None) -> Settlement:
    """How a reservation ends whose call brought no answer. `pause`: seconds, where a 429 told none itself."""
    way, estimate = attempt.way, attempt.estimate
    known = error.status is not None
    costs = refused(way.profile, estimate) if known else admission(way.profile, estimate)
    throttles: tuple[Throttle, ...] = ()
    if isinstance(error, Throttled) or (isinstance(error, Unavailable) and error.retry_after):
        wait = error.retry_after if error.retry_after is not None else pause
        throttles = tuple(Throttle(bucket, wait) for bucket, _ in way.buckets[:1])
    # A provider bills a client that hung up: what may have been billed is spent, at its upper bound.
    amount = way.rates.ceiling(estimate) if error.billed and way.rates else 0
    return Settlement(
        amount=amount,
        costs=tuple(charge.costs for charge in way.charges(costs)),
        outcome={"failure": "failure", "success": "ok", "none": "neutral"}[error.circuit],  # type: ignore[arg-type]
        failed=True,
        columns={"calls": 1, "throttled": 1} if isinstance(error, Throttled) else {"calls": 1, "failed_calls": 1},
        levels=levels(way, error.limits) if error.limits else {},
        throttles=throttles,
    )


def levels(way: Way, told: RateLimits) -> dict[str, dict[str, Level]]:
    """What headers told of the model's bucket, in the form that settling takes."""
    found: dict[str, Level] = {str(name): Level(level.limit, level.remaining) for name, level in told.items()}
    return {way.buckets[0][0]: found} if found else {}


def _amount(way: Way, estimate: Estimate, usage: Usage | None) -> int:
    """What an answer cost, in n$: the most it can have where the provider told no usage."""
    if way.rates is None:
        return 0
    return way.rates.cost(usage, media=estimate.media) if usage is not None else way.rates.ceiling(estimate)
