"""One call to a provider: the last check before it is sent, the call, and what its failure says about limits."""

import asyncio
import time
from dataclasses import replace
from functools import partial
from typing import Final, NoReturn

from celery.exceptions import SoftTimeLimitExceeded

from limits.admission import sent
from limits.errors import LimitsError
from tasks.jobs import hooks, outcomes
from tasks.jobs.attempt import Attempt
from tasks.jobs.bucket_calls import CONNECTING
from tasks.jobs.reserving import Reserving, Revoked
from tasks.jobs.usage import believed
from workers.config.credentials import fingerprint
from workers.config.settings import SettingsError
from workers.providers.answer import Answer, Provider
from workers.providers.errors import Interrupted, NotSent, ProviderError, Throttled
from workers.providers.failures import not_set
from workers.providers.headers import NO_LIMITS

#: Seconds from asking the admission to writing the request, after which the worker asks again: another worker may have
#: got a 429 since.
HELD_UP: Final = 0.1


class Calling(Reserving):
    """The step that makes a call."""

    async def call(self, attempt: Attempt) -> Answer:
        """Make the call. Raises Revoked if this worker learned of a pause before the request was written.

        Raises AccountBlocked if the key or the address is not configured, as if the provider had refused the key. If
        the call breaks off after the request was written, its money is presumed spent: a provider bills a client that
        has hung up.
        """
        provider, key = await self._client(attempt)
        state = attempt.state
        attempt.sent_at = time.monotonic()
        if attempt.starting is not None:
            asyncio.get_running_loop().call_later(CONNECTING, attempt.end_start)
        state.calls += 1
        try:
            answer = await provider.call(
                attempt.job.line.url,
                attempt.body,
                model=attempt.route.model,
                key=key,
                timeout=self.settings.providers[attempt.route.provider].flex_timeout if attempt.is_flex else None,
                may_send=partial(self._may_send, attempt),
                sink=attempt.sink,
            )
        except NotSent:
            state.calls -= 1
            await self.release(attempt)
            raise Revoked("pause") from None
        except ProviderError as error:
            self._note_failure(attempt, error, key)
            raise
        except SoftTimeLimitExceeded as exc:
            self._out_of_time(attempt, exc)
        except BaseException:
            closing = outcomes.of_failure(attempt, Interrupted(code="cut_off", billed=attempt.written))
            # If this fails, the reservation ends with its lease, and its money is presumed spent then.
            await asyncio.gather(self._settle(attempt, closing), return_exceptions=True)
            raise
        finally:
            attempt.end_start()
        return self._note_answer(attempt, answer)

    def _note_answer(self, attempt: Attempt, answer: Answer) -> Answer:
        """Report the answer. Returns it without a usage that cannot be."""
        answer = replace(answer, usage=believed(attempt, answer.usage))
        self.sizes.answered(attempt.route.buckets[0][0], attempt.estimate.input)
        hooks.called(attempt, answer)
        return answer

    async def _client(self, attempt: Attempt) -> tuple[Provider, str]:
        """The provider's client and the route's key. Gives the reservation back if one of them is not configured."""
        route = attempt.route
        try:
            return self.provider(route.provider), self.settings.providers[route.provider].key(route.key)
        except (SettingsError, LookupError) as missing:
            await self.release(attempt)
            raise not_set(route.provider, str(missing), key=route.provider in self.providers) from None

    def _note_failure(self, attempt: Attempt, error: ProviderError, key: str) -> None:
        """Complete the error, and hold back this worker's own calls at once if it asks for a pause."""
        error.usage = believed(attempt, error.usage)
        error.fingerprint = fingerprint(key)
        if isinstance(error, Throttled) and not error.only_for and self._about_size(attempt, error):
            error.only_for = "size"
        if throttles := outcomes.throttles(attempt.route, error):
            model = throttles[0]  # the account's pause is enforced by the admission
            self.waitlists.throttled(attempt.ask.id, model.bucket, model.retry_after)
        hooks.called(attempt, error)

    def _out_of_time(self, attempt: Attempt, limit: SoftTimeLimitExceeded) -> NoReturn:
        words = f"no answer within the task's soft limit ({limit})"
        interrupted = Interrupted(words, code="time_limit", billed=attempt.written)
        hooks.called(attempt, interrupted)
        raise interrupted from None

    def _about_size(self, attempt: Attempt, error: Throttled) -> bool:
        """Whether a 429 is about the length of the request. It isn't if a limit of requests is used up."""
        used_up = {str(name) for name, level in (error.limits or NO_LIMITS).items() if level.remaining == 0}
        if {error.dimension, *used_up} & {"rpm", "rpd"}:
            return False
        return self.sizes.refused(attempt.route.buckets[0][0], attempt.estimate.input)

    async def _may_send(self, attempt: Attempt) -> bool:
        """Whether an admitted call may still be sent, now that it has a connection.

        If this worker was held up since it asked, another worker may have got a 429. So it asks again, unless a later
        question of this worker was answered with yes.
        """
        if time.monotonic() - self.waitlists.cleared_at(attempt) > HELD_UP:
            attempt.asked_at = time.monotonic()
            try:
                reply = await self.server.run(sent(self.keys, attempt.ask.id, self.owner))
            except LimitsError:
                return False  # asking for the next reservation reports the reason
            if reply.verdict != "sent":
                return False
            self.waitlists.cleared(attempt)
        if not self.waitlists.may_send(attempt):
            return False
        self.waitlists.calls(attempt.route.buckets[0][0]).sent()
        attempt.end_start()
        attempt.written = True
        return True
