"""What a worker process needs to run jobs: its connections, and the steps of a job's way over them.

There is one runtime an event loop. Everything in it is shared by all jobs in flight: the Redis connection (its
round trips are pooled), a client a provider, and one renewer for all leases (leases.py).
"""

import asyncio
import logging
import time
from collections.abc import Collection
from dataclasses import replace
from functools import partial
from typing import Any, ClassVar, Final
from uuid import uuid4
from weakref import WeakKeyDictionary

import redis.asyncio
from celery.exceptions import SoftTimeLimitExceeded

from limits.admission import admit, release, sent, settle
from limits.client.async_connection import AsyncServer
from limits.client.compact_json import loads
from limits.client.connection import open_async_client
from limits.encoding import settlement_json
from limits.errors import LimitsError, ServerUnavailable
from limits.feedback import AccountRefusal, refused, unblock_account
from limits.keys import Keys
from limits.reservation import Admitted, Denied, Impossible, Settlement
from limits.reservation import Answer as Admission
from tasks.jobs import hooks, outcomes, retry, store
from tasks.jobs.attempt import MAX_WAIT, Attempt, plan
from tasks.jobs.job import Job
from tasks.jobs.leases import Leases
from tasks.jobs.priced_routes import PricedRoutes
from tasks.jobs.sizes import Sizes
from tasks.jobs.slow_start import SlowStart
from tasks.jobs.state import JobState
from tasks.jobs.stops import Stops
from tasks.jobs.store import Begun, Outcome
from tasks.jobs.throttles import Throttles
from tasks.jobs.usage import believed
from tasks.jobs.waitlist import Waitlists
from workers.config.credentials import fingerprint
from workers.config.current import current_settings
from workers.config.settings import Settings, SettingsError
from workers.embedded import server_url
from workers.models.calibration import Ratios
from workers.models.routing import NoPrice, Routes
from workers.pool.coroutine import at_loop_end
from workers.pool.pool import slots
from workers.providers import connect
from workers.providers.answer import Answer, Provider
from workers.providers.errors import AccountBlocked, Interrupted, NotSent, ProviderError, Throttled
from workers.providers.failures import not_set
from workers.providers.headers import NO_LIMITS

log = logging.getLogger(__name__)

#: Seconds between two exchanges of token ratios, and two looks at shared prices.
SYNC_EVERY, PRICES_EVERY = 5.0, 60.0

#: Seconds between two looks whether the batches of this worker's jobs still run.
STOPS_EVERY: Final = 0.5

#: Seconds between two notes in a batch's record of what holds it up.
TELL_EVERY: Final = 5.0

#: A call that is not written so many seconds after the admission was asked has been held up.
HELD_UP: Final = 0.1

#: How long the end of a call is tried to be recorded, in seconds: its answer is paid for, and is in no other place.
FINISH = 3600.0


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
        self.client = open_async_client(url)
        self.priced = PricedRoutes(settings, self.client, self.keys.prices)
        self.ratios = Ratios(self.keys.token_ratios)
        self.owner = uuid4().hex
        self.leases = Leases(self.server, self.keys, self.owner, self.lease)
        self.providers: dict[str, Provider] = {}
        self.waitlists = Waitlists(slots)
        self.stops = Stops(self.server, self.keys, self.leases.batches, self.waitlists.look_up)
        self.throttles = Throttles()
        self.slow_start = SlowStart()
        self.sizes = Sizes()
        self.ceilings: dict[str, str] = {}  # by target: the name of the ceiling that it has asked for
        self._told: dict[str, float] = {}
        self.background: list[asyncio.Task[None]] = []

    @classmethod
    async def current(cls) -> "Runtime":
        """The runtime of the running loop, made when it is first asked for."""
        loop = asyncio.get_running_loop()
        found = cls._of_loop.get(loop)
        if found is None:
            found = cls._of_loop[loop] = cls(current_settings())
            found.background = [
                loop.create_task(found._every(found.lease / 3, found.leases.renew)),
                loop.create_task(found._every(found.lease / 6, found.leases.sweep)),
                loop.create_task(found._every(STOPS_EVERY, found.stops.look)),
                loop.create_task(found._every(SYNC_EVERY, found._sync)),
                loop.create_task(found._every(PRICES_EVERY, found._prices)),
            ]
            at_loop_end(found.close)
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

    async def begin(self, job: Job, state: JobState) -> Begun:
        """Ask whether this delivery may run the job."""
        return await self.server.run(store.begin(self.keys, job, state.owner, self.lease))

    async def prepare(self, job: Job, state: JobState, excluded: Collection[str]) -> Attempt:
        """What to ask of the admission for the next attempt; NoRoute where nothing can take the job.

        OverCap if it could cost more than is left under the cap of its agent, LookUpFailed if its price is missing
        and the table does not answer.
        """
        await self.priced.ready()
        looked_up: set[str] = set()
        while True:
            try:
                return self._plan(job, state, excluded)
            except NoPrice as missing:
                if missing.target in looked_up:
                    raise
                looked_up.add(missing.target)
                await self.priced.look_up(missing.target)

    def _plan(self, job: Job, state: JobState, excluded: Collection[str]) -> Attempt:
        attempt = plan(
            self.routes,
            self.ratios,
            job,
            state,
            owner=self.owner,
            excluded=excluded,
            now=time.time(),
            lease=self.lease,
            ceilings=self.ceilings,
        )
        if job.spending_cap is not None:
            job.spending_cap.hold(job.call, state.cost + max(each.amount for each in attempt.ask.candidates))
        return attempt

    async def admit(self, attempt: Attempt, *, for_waitlist: bool = False) -> Admission:
        """Ask for a reservation; where it is given, the attempt knows its way. `for_waitlist`: see jobs/waitlist.py."""
        if for_waitlist != attempt.ask.for_waitlist:
            attempt.ask = replace(attempt.ask, for_waitlist=for_waitlist)
        attempt.asked_at = time.monotonic()
        try:
            answer = await self.server.run(admit(self.keys, attempt.ask))
            while isinstance(answer, Denied) and answer.reason == "latch" and await self._has_other_key(answer.subject):
                answer = await self.server.run(admit(self.keys, attempt.ask))
        except BaseException:
            # Whether it was given is not known; left alone it would count as a call that was sent.
            await self.release(attempt)
            raise
        if isinstance(answer, Admitted):
            attempt.admitted(answer)
            self.leases.reservations.add(attempt.ask.id)
            self.waitlists.taken(attempt)
            if attempt.is_sent:
                self._passed(attempt)
        hooks.admitted(attempt, answer)
        return answer

    def not_admitted(
        self,
        job: Job,
        answer: Denied | Impossible,
        *,
        own: float,
        otherwise: retry.Fail | None,
        around: float | None = None,
    ) -> retry.Wait | retry.FallBack | retry.Fail:
        """What a job does that was not admitted; `own`, `otherwise` and `around` as in tasks/jobs/retry.py."""
        workflow = self.settings.workflow(job.workflow)
        return retry.not_admitted(
            answer,
            when_exhausted=workflow.when_exhausted,
            cheaper=workflow.cheaper_than(job.line.model),
            time_left=job.deadline - time.time() if job.deadline else None,
            own=own,
            otherwise=otherwise,
            around=around,
        )

    async def depart(self, attempt: Attempt, state: JobState) -> None:
        """Wait until the call may go out; Revoked where its reservation was taken back meanwhile."""
        try:
            while not attempt.is_sent:
                self.slow_start.over(state.owner)
                await asyncio.sleep(attempt.wait)
                self.stops.check(attempt.job)
                attempt.asked_at = time.monotonic()
                departure = await self.server.run(sent(self.keys, attempt.ask.id, self.owner))
                if departure.verdict == "sent":
                    attempt.is_sent = True
                    self.waitlists.left(attempt.ask.id)
                    self._passed(attempt)
                elif departure.verdict == "wait" and departure.wait <= MAX_WAIT:
                    attempt.wait = departure.wait
                else:
                    raise Revoked(departure.reason)  # noqa: TRY301 - gives the reservation back on its way
        except BaseException:
            await self.release(attempt)
            raise

    async def release(self, attempt: Attempt) -> None:
        """Give a reservation back that was not used; by itself it ends with its lease."""
        self.leases.reservations.discard(attempt.ask.id)
        try:
            told = self.server.run(release(self.keys, attempt.ask.id, self.owner))
            await asyncio.gather(told, return_exceptions=True)
        finally:
            self.settled(attempt.ask.id)

    async def call(self, attempt: Attempt, state: JobState) -> Answer:
        """Make the call; Revoked where a wait was told to this worker before the request was written.

        Without a key or an address none can be made: AccountBlocked, as where a provider refuses the key. Broken off
        after the request was written, its money is presumed spent: a provider bills a client that hung up.
        """
        route = attempt.route
        try:
            provider = self.provider(route.provider)
            key = self.settings.providers[route.provider].key(route.key)
        except SettingsError as missing:
            await self.release(attempt)
            raise not_set(route.provider, str(missing), key=route.provider in self.providers) from None
        attempt.sent_at = time.monotonic()
        state.calls += 1
        self.slow_start.connects(state.owner)
        try:
            answer = await provider.call(
                attempt.job.line.url,
                attempt.body,
                model=route.model,
                key=key,
                may_send=partial(self._may_send, attempt, state.owner),
            )
        except NotSent:
            state.calls -= 1
            await self.release(attempt)
            raise Revoked("pause") from None
        except ProviderError as error:
            error.usage = believed(attempt, error.usage)
            error.fingerprint = fingerprint(key)
            if isinstance(error, Throttled) and not error.only_for and self._about_size(attempt, error):
                error.only_for = "size"
            if throttles := outcomes.throttles(route, error):
                model = throttles[0]  # what the account is told is for the admission
                self.throttles.told(model.bucket, model.retry_after, attempt.ask.id)
                self.slow_start.refused(attempt.job.line.model)
            hooks.called(attempt, error)
            raise
        except SoftTimeLimitExceeded as exc:
            words = f"no answer within the task's soft limit ({exc})"
            interrupted = Interrupted(words, code="time_limit", billed=attempt.written)
            hooks.called(attempt, interrupted)
            raise interrupted from None
        except BaseException:
            closing = outcomes.of_failure(attempt, Interrupted(code="cut_off", billed=attempt.written))
            # Left alone, the reservation ends with its lease, and its money is presumed then.
            await asyncio.gather(self._settle(attempt, closing, state), return_exceptions=True)
            raise
        finally:
            self.slow_start.over(state.owner)
        answer = replace(answer, usage=believed(attempt, answer.usage))
        self.sizes.answered(route.buckets[0][0], attempt.estimate.input)
        hooks.called(attempt, answer)
        return answer

    def _about_size(self, attempt: Attempt, error: Throttled) -> bool:
        """Whether a 429 is about the length of the request; not where a limit of requests is used up."""
        used_up = {str(name) for name, level in (error.limits or NO_LIMITS).items() if level.remaining == 0}
        if {error.dimension, *used_up} & {"rpm", "rpd"}:
            return False
        return self.sizes.refused(attempt.route.buckets[0][0], attempt.estimate.input)

    async def _may_send(self, attempt: Attempt, delivery: str) -> bool:
        """Whether a call that was let go may still leave, now that there is a connection for it.

        Where this worker was held up since it asked, another one may have met a 429 meanwhile: it asks once more,
        unless another call that asked later was let go.
        """
        asked = attempt.asked_at
        known = min((self.throttles.passed_since(bucket, asked) for bucket, _ in attempt.route.buckets), default=asked)
        if time.monotonic() - known > HELD_UP:
            attempt.asked_at = time.monotonic()
            try:
                departure = await self.server.run(sent(self.keys, attempt.ask.id, self.owner))
            except LimitsError:
                return False  # whoever asks for the next reservation is told why
            if departure.verdict != "sent":
                return False
            self._passed(attempt)
        if not all(self.throttles.over(bucket, attempt.asked_at) for bucket, _ in attempt.route.buckets):
            return False
        self.slow_start.left(delivery, attempt.job.line.model)
        attempt.written = True
        return True

    def _passed(self, attempt: Attempt) -> None:
        for bucket, _ in attempt.route.buckets:
            self.throttles.passed(bucket, attempt.asked_at)

    async def settle_failure(self, attempt: Attempt, error: ProviderError, state: JobState) -> int:
        """Close the reservation of a call that brought no answer, and tell everyone what it showed.

        Returns what it may have cost, in n$.
        """
        closing = outcomes.of_failure(attempt, error)
        await self._settle(attempt, closing, state)
        return closing.amount

    async def _settle(self, attempt: Attempt, closing: Settlement, state: JobState) -> None:
        """Settle a call that has not ended its job. A batch counts it now; an agent's job when it is written down."""
        job, reservation = attempt.job, attempt.ask.id
        self.leases.reservations.discard(reservation)
        try:
            if job.batch and not job.call:
                words = settlement_json(reservation, self.owner, closing)
                await self.server.run(store.settle_line(self.keys, job, words, closing), FINISH)
                state.counted(closing)
            else:
                await self.server.run(settle(self.keys, reservation, self.owner, closing), FINISH)
        finally:
            self.settled(attempt.ask.id)

    def settled(self, reservation: str) -> None:
        """The admission knows of the end of a call, and of whatever it was told; or will not be told any more."""
        self.throttles.known(reservation)
        self.waitlists.free(reservation)

    async def refused(self, attempt: Attempt, error: AccountBlocked) -> None:
        """Tell everyone that the account refused a call; `error.blocked` says then what that means for the job."""
        route, words = attempt.route, f"{error.code}: {error.advice}"
        word = AccountRefusal(
            route.account,
            words,
            scope=route.scope,
            certain=error.certain,
            job=attempt.job.task_id,
            reservation=attempt.ask.id,
            key=error.fingerprint,
        )
        heard = await self.server.run(refused(self.keys, word), FINISH)
        error.blocked = heard.blocked
        if heard.new:
            name = route.account if error.certain else route.scope
            log.error("account %s is blocked, and is tried now and then: %s", name, words)

    async def _has_other_key(self, account: str) -> bool:
        """Whether a blocked account has another key now than the one that was refused; then it is blocked no more."""
        provider, _, rest = account.partition("/")
        try:
            key = self.settings.providers[provider].key(int(rest.partition("/")[0]))
        except (SettingsError, KeyError, IndexError, ValueError):
            return False
        return await self.server.run(unblock_account(self.keys, account, key=fingerprint(key)))

    async def finish(self, job: Job, outcome: Outcome, state: JobState) -> dict[str, Any] | None:
        """Record how the job ended; its result line where the job has no batch to write it."""
        calls, throttles = state.calls - state.counted_calls, state.throttles - state.counted_throttles
        if state.counted_cost:
            outcome = replace(outcome, counted=outcome.counted + state.counted_cost)
        try:
            await self.server.run(store.finish(self.keys, job, outcome, calls=calls, throttles=throttles), FINISH)
        finally:
            self.settled(outcome.reservation)
        hooks.ended(outcome)
        if job.batch is not None:
            return None
        line: dict[str, Any] = loads(outcome.line)
        return line

    async def tell(self, job: Job, words: str) -> None:
        """Have `overnight status` of the job's batch tell what holds it up, as this worker knows just now."""
        now = time.monotonic()
        if job.batch and now >= self._told.get(job.batch, 0.0):
            self._told = {batch: until for batch, until in self._told.items() if until > now}
            self._told[job.batch] = now + TELL_EVERY
            await self.server.run(store.tell(self.keys, job.batch, words))

    # What the decisions need to know

    @property
    def routes(self) -> Routes:
        """The ways of every model, at the prices known by now."""
        return self.priced.routes

    def max_attempts(self, job: Job) -> int:
        """How many failures end the job."""
        return self.settings.workflow(job.workflow).max_attempts

    def provider(self, name: str) -> Provider:
        """The provider's client, opened at its first call; SettingsError where its address is not there."""
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
                ignores_limits=settings.rate_limit_headers == "ignore",
            )
        return found

    # Endings

    def answered(self, attempt: Attempt, answer: Answer, state: JobState) -> Outcome:
        """The job's end with an answer."""
        self.leases.reservations.discard(attempt.ask.id)
        if answer.usage is not None:
            self.ratios.observe(attempt.route.target, attempt.estimate, answer.usage)
        return outcomes.answered(attempt, answer, state, self.owner)

    async def failed(self, attempt: Attempt, error: ProviderError, fail: retry.Fail, state: JobState) -> Outcome:
        """The job's end with a failure."""
        self.leases.reservations.discard(attempt.ask.id)
        return outcomes.failed(attempt, error, fail, state, self.owner)

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

    async def _sync(self) -> None:
        """Share what was learnt of the models' tokens."""
        await self.ratios.sync(self.client)

    async def _prices(self) -> None:
        """Take over the prices that submits have shared."""
        await self.priced.take_over()
