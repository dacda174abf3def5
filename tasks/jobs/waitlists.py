"""A worker's waitlists, and which of them a job joins.

While enough jobs wait for a bucket, no more of them are claimed from the queue: one for each of this worker's calls in
flight, or for each call sent in the last two seconds. Half of the worker's slots stay free of waiters and of jobs that
are admitted ahead of their time. Urgent jobs have a waitlist of their own for each bucket.
"""

import time
from collections.abc import Callable
from typing import Final

from limits.reservation import Denied
from tasks.jobs.attempt import Attempt
from tasks.jobs.bucket_calls import BucketCalls
from tasks.jobs.waitlist import Waitlist, opens_in

#: Seconds: a call that is admitted this long before it may be sent waits for a limit, as waiters do.
AHEAD: Final = 1.0

#: Seconds: a job whose turn is expected within this time may always join, however many wait already.
SOON: Final = 3.0


class _Bucket:
    """A bucket's calls and its two waitlists."""

    __slots__ = ("batch", "calls", "urgent")

    def __init__(self, name: str) -> None:
        self.calls = BucketCalls(self._wake)
        self.urgent = Waitlist(name, self.calls)
        self.batch = Waitlist(name, self.calls)

    def _wake(self) -> None:
        self.urgent.wake()
        self.batch.wake()


class Waitlists:
    """The waitlists of one worker, and its own calls of each bucket. `slots` returns the worker's slots."""

    def __init__(self, slots: Callable[[], int]) -> None:
        self._slots = slots
        self._buckets: dict[str, _Bucket] = {}
        self._in_flight: dict[str, tuple[str, ...]] = {}  # by reservation: its buckets that limit concurrency
        self._throttled: dict[str, str] = {}  # by reservation: the bucket whose 429 isn't settled
        self._ahead: set[str] = set()  # reservations whose call may not be sent yet

    # Which waitlist

    def of(self, attempt: Attempt) -> Waitlist:
        """The waitlist through which the attempt asks: that of a route that is free, if there is one."""
        waits: Waitlist | None = None
        blocked: Waitlist | None = None
        for candidate in attempt.ask.candidates:
            if candidate.not_before or candidate.fallback:
                continue
            lists = [self._waitlist(charge.bucket, urgent=attempt.ask.urgent) for charge in candidate.charges]
            if full := next((each for each in lists if each.full), None):
                blocked = blocked or full
            elif lists[0].free:
                return lists[0]
            else:
                waits = waits or lists[0]
        first = attempt.ask.candidates[0].charges[0].bucket
        return waits or blocked or self._waitlist(first, urgent=attempt.ask.urgent)

    def may_join(self, waitlist: Waitlist, attempt: Attempt) -> bool:
        """Whether an attempt may wait there without having asked: for its start always, else if there is room."""
        return not waitlist.full or self._has_room(waitlist, len(waitlist.waiters) * _seconds(attempt, waitlist.bucket))

    def after_denial(self, attempt: Attempt, denied: Denied) -> Waitlist | None:
        """The waitlist in which a denied job waits; None if it must not wait in this worker."""
        if (opens := opens_in(denied)) is None:
            return None
        waitlist = self.denying(attempt, denied)
        if not self._has_room(waitlist, opens + len(waitlist.waiters) * _seconds(attempt, waitlist.bucket)):
            return None
        waitlist.denied(denied)
        return waitlist

    def denying(self, attempt: Attempt, denied: Denied) -> Waitlist:
        """The waitlist of the bucket that denied the attempt."""
        return self._waitlist(denied.subject, urgent=attempt.ask.urgent)

    def of_route(self, attempt: Attempt) -> Waitlist:
        """The waitlist of the model of an admitted attempt."""
        return self._waitlist(attempt.route.buckets[0][0], urgent=attempt.ask.urgent)

    def _has_room(self, waitlist: Waitlist, seconds: float) -> bool:
        """Whether one more job may join whose turn is expected in `seconds`."""
        return self._spare() > 0 and (seconds <= SOON or self.wanted(waitlist) > 0)

    def _spare(self) -> int:
        """How many more of the worker's slots may be taken by jobs that only wait."""
        waiting = sum(len(waitlist.waiters) for waitlist in self._all() if waitlist.full)
        return self._slots() // 2 - waiting - len(self._ahead)

    def wanted(self, waitlist: Waitlist) -> int:
        """How many more waiters it takes to use up what the bucket will allow soon."""
        supply = min(self._slots() // 2, waitlist.calls.supply())
        return min(supply - len(waitlist.waiters), self._spare())

    def credit(self, waitlist: Waitlist) -> int:
        """How many more jobs may be claimed for it: all that it wants if its bucket is full, else those that may start.

        Each job that has arrived makes a turn of the event loop longer, so the jobs that start learn of a 429 later.
        """
        return self.wanted(waitlist) if waitlist.limits else waitlist.calls.room() - len(waitlist.waiters)

    def recheck(self) -> None:
        """Send away who must not wait any longer, and the last waiters of full buckets if they take too many slots."""
        for waitlist in self._all():
            waitlist.recheck()
            if waitlist.full and (spare := self._spare()) < 0:
                waitlist.send_away(-spare)

    def ask_now(self) -> None:
        """Let all waitlists ask now: the limits have changed."""
        for waitlist in self._all():
            waitlist.ask_now()

    # A call's way

    def admitted(self, attempt: Attempt) -> None:
        """Note an admitted attempt."""
        charges = attempt.ask.candidates[attempt.routes.index(attempt.route)].charges
        if attempt.wait > AHEAD:
            self._ahead.add(attempt.ask.id)
            self.of_route(attempt).denied_at = time.monotonic()
        for charge in charges:
            calls = self.calls(charge.bucket)
            if charge.quota.concurrency:
                calls.in_flight += 1
            else:
                calls.used()
        if limited := tuple(charge.bucket for charge in charges if charge.quota.concurrency):
            self._in_flight[attempt.ask.id] = limited

    def cleared(self, attempt: Attempt) -> None:
        """Note that the server let the call be sent: no pause was known when it was asked."""
        self._ahead.discard(attempt.ask.id)
        for bucket, _ in attempt.route.buckets:
            self.calls(bucket).cleared(attempt.asked_at)

    def cleared_at(self, attempt: Attempt) -> float:
        """When there was last known to be no pause of any of its buckets."""
        asked = attempt.asked_at
        return min((self.calls(bucket).cleared_at(asked) for bucket, _ in attempt.route.buckets), default=asked)

    def may_send(self, attempt: Attempt) -> bool:
        """Whether no 429 of this worker forbids to write the request."""
        return all(self.calls(bucket).allows(attempt.asked_at) for bucket, _ in attempt.route.buckets)

    def throttled(self, reservation: str, bucket: str, seconds: float | None) -> None:
        """Stop a bucket: one of its calls got a 429."""
        self._throttled[reservation] = bucket
        self.calls(bucket).throttled(seconds, reservation)

    def ended(self, reservation: str) -> None:
        """Note that a call has ended and the server knows it, or that it was never made."""
        self._ahead.discard(reservation)
        if bucket := self._throttled.pop(reservation, ""):
            self.calls(bucket).settled(reservation)
        for name in self._in_flight.pop(reservation, ()):
            found = self._buckets[name]
            found.calls.in_flight -= 1
            found.calls.used()
            if not found.urgent.freed():
                found.batch.freed()

    def calls(self, bucket: str) -> BucketCalls:
        """This worker's calls of a bucket."""
        return self._bucket(bucket).calls

    def _bucket(self, name: str) -> _Bucket:
        found = self._buckets.get(name)
        if found is None:
            found = self._buckets[name] = _Bucket(name)
        return found

    def _waitlist(self, bucket: str, *, urgent: bool) -> Waitlist:
        found = self._bucket(bucket)
        return found.urgent if urgent else found.batch

    def _all(self) -> list[Waitlist]:
        return [waitlist for bucket in self._buckets.values() for waitlist in (bucket.urgent, bucket.batch)]


def _seconds(attempt: Attempt, bucket: str) -> float:
    """How many seconds of the bucket's rate such a call uses up."""
    charges = (charge for candidate in attempt.ask.candidates for charge in candidate.charges)
    return next((charge.quota.seconds(charge.costs) for charge in charges if charge.bucket == bucket), 0.0)
