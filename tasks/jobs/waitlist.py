"""Waitlists: jobs of this worker that wait for one of a bucket's calls to end, or for its rate.

A time to come back would be a guess: it is unknown when a call will end, or how soon a rate that is still being learned
allows the next one. Too late a guess leaves quota unused, too early a one wastes a question. So a few jobs wait here
whatever the guess: one for each of this worker's calls in flight, or for each call sent in the last two seconds.

The first waiter asks for all of them: when a call of this worker ends, when the admission said that the next call could
go, and every `POLL` seconds, since calls of other workers end without a notice. For a rate it wakes as many others as
were admitted together the last time, so that their questions share a round trip. The last of them to be admitted wakes
the next.

While enough jobs wait here, no more are claimed from the queue. Half of the worker's slots stay free of waiters and of
jobs that are admitted ahead of their time. Urgent jobs have a waitlist of their own for each bucket.
"""

import asyncio
import time
from collections import Counter, defaultdict, deque
from collections.abc import Callable
from typing import Final, Self

from limits.reservation import Denied
from tasks.jobs.attempt import Attempt
from workers.transport.gates import LONG

#: Denials for which a job joins a waitlist: the first waiter's answer holds for all of them.
WAITLIST_REASONS: Final = frozenset({"concurrency", "rpm", "tpm", "itpm", "otpm", "pace", "pause"})

#: Seconds: if a pause lasts longer, no job waits here, and all go back to their queue. (For a rate: `LONG`.)
SHORT_PAUSE: Final = 1.0

#: Seconds: a call that is admitted this long before it may be sent waits for a limit, as waiters do.
AHEAD: Final = 1.0

#: Seconds: a job whose turn is expected within this time may always join, however many wait already.
SOON: Final = 3.0

#: Seconds between two questions of the first waiter while no call of this worker ends.
POLL: Final = 0.25

#: Seconds after which every other waiter checks whether it must still wait, and asks if it has another route.
RECHECK: Final = 10.0

#: The shortest time between two questions of the first waiter, in seconds.
SHORTEST_POLL: Final = 0.02

#: Seconds of work that the waiters of a bucket should last for.
SUPPLY: Final = 2.0

#: The prefix of the name of a bucket's waitlist for urgent jobs.
URGENT: Final = "urgent "


def waitlist_of(attempt: Attempt, bucket: str) -> str:
    """The name of the bucket's waitlist that this attempt would join."""
    return URGENT + bucket if attempt.ask.urgent else bucket


def _seconds_each(attempt: Attempt, bucket: str) -> float:
    """How many seconds of the bucket's rate such a call uses up."""
    charges = (charge for candidate in attempt.ask.candidates for charge in candidate.charges)
    return next((charge.quota.seconds(charge.costs) for charge in charges if charge.bucket == bucket), 0.0)


class Waiter:
    """One job in a waitlist. It keeps its place until it leaves, however often its request is denied."""

    def __init__(self, waitlists: "Waitlists") -> None:
        self.waitlist = ""  # the one that it is in
        self.may_ask = False
        self._rechecks = False
        self._woken = asyncio.Event()
        self._routes = 1
        self._poll = POLL
        self._waitlists = waitlists

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.leave()

    def queues_behind(self, attempt: Attempt) -> bool:
        """Whether the job waits behind others without asking: True if each of its routes has a waitlist."""
        if not (bucket := self._waitlists.blocking(attempt)):
            return False
        waitlist = waitlist_of(attempt, bucket)
        return self._join(attempt, waitlist, self._waitlists.length(waitlist) * _seconds_each(attempt, bucket))

    def join(self, attempt: Attempt, denied: Denied) -> bool:
        """Join the waitlist of the bucket that denied the attempt. Returns False if this job must not wait here."""
        bucket, seconds, opens = denied.subject, denied.retry_in, denied.opens_in
        waitlist = waitlist_of(attempt, bucket)
        if denied.reason not in WAITLIST_REASONS or seconds is None or opens is None:
            return False
        if denied.reason == "concurrency":
            self._poll = POLL
        elif opens > (SHORT_PAUSE if denied.reason == "pause" else LONG):
            return False
        else:
            self._poll = max(opens, SHORTEST_POLL)
            seconds = opens + self._waitlists.length(waitlist) * _seconds_each(attempt, bucket)
            self._waitlists.denied(waitlist)
        return self._join(attempt, waitlist, seconds)

    def _join(self, attempt: Attempt, waitlist: str, seconds: float) -> bool:
        self._routes = len(attempt.routes)
        if self.waitlist != waitlist:
            self.leave()
            if not self._waitlists.has_room(waitlist, seconds):
                return False
            self.waitlist = waitlist
            self._waitlists.add(self)
        return True

    async def turn(self) -> bool:
        """Wait until it is worth asking (True), or until the job should check whether it must still wait (False)."""
        self.may_ask = False
        while True:
            self._woken.clear()
            first = self._waitlists.first(self.waitlist) is self
            try:
                async with asyncio.timeout(self._poll if first else RECHECK):
                    await self._woken.wait()
            except TimeoutError:
                if not first and self._routes == 1:
                    return False  # the first waiter asks for it
                self.may_ask = True
                if first:
                    self._waitlists.wake_group(self.waitlist)
            if self.may_ask:
                return True
            if self._rechecks:
                self._rechecks = False
                return False

    def recheck(self) -> None:
        """End the current wait, since something has happened that may end the job. It keeps its place."""
        self._rechecks = True
        self._woken.set()

    def wake(self) -> None:
        """Let it ask."""
        self.may_ask = True
        self._woken.set()

    def promote(self) -> None:
        """It is the first waiter now, and polls."""
        self._woken.set()

    def leave(self) -> None:
        """Leave the waitlist, if it is in one; the next waiter may ask."""
        if self.waitlist:
            self._waitlists.remove(self)
            self.waitlist = ""


class Waitlists:
    """The waitlists of one worker by name, and its own calls of each bucket. `slots` returns the worker's slots."""

    def __init__(self, slots: Callable[[], int]) -> None:
        self._slots = slots
        self._waiting = 0
        self._waiters: dict[str, deque[Waiter]] = {}
        self._admitted: Counter[str] = Counter()  # by waitlist: admitted since its last denial
        self._groups: dict[str, int] = {}  # by waitlist: admitted together before that denial
        self._lately: defaultdict[str, deque[float]] = defaultdict(lambda: deque(maxlen=1000))  # by bucket: when
        self._in_flight: Counter[str] = Counter()  # by bucket, if that limits concurrency
        self._buckets: dict[str, tuple[str, ...]] = {}  # by reservation: its buckets that limit concurrency
        self._ahead: set[str] = set()  # reservations whose call may not be sent yet

    def waiter(self) -> Waiter:
        """A waiter for one job: a context that leaves its waitlist at the end."""
        return Waiter(self)

    def admitted(self, attempt: Attempt) -> None:
        """Record an admitted attempt."""
        charges = attempt.ask.candidates[attempt.routes.index(attempt.route)].charges
        if attempt.wait > AHEAD:
            self._ahead.add(attempt.ask.id)
        for charge in charges:
            if not charge.quota.concurrency:
                self._lately[charge.bucket].append(time.monotonic())
                self._admitted[waitlist_of(attempt, charge.bucket)] += attempt.ask.for_waitlist
        if limited := tuple(charge.bucket for charge in charges if charge.quota.concurrency):
            self._buckets[attempt.ask.id] = limited
            self._in_flight.update(limited)

    def sent(self, reservation: str) -> None:
        """Record that an admitted call is sent."""
        self._ahead.discard(reservation)

    def ended(self, reservation: str) -> None:
        """Record that a call has ended and the server knows it, or that it was never made."""
        self._ahead.discard(reservation)
        for bucket in self._buckets.pop(reservation, ()):
            self._in_flight[bucket] -= 1
            if self._in_flight[bucket] <= 0:
                del self._in_flight[bucket]
            self._lately[bucket].append(time.monotonic())
            if not self._wake_next(URGENT + bucket):
                self._wake_next(bucket)

    def denied(self, waitlist: str) -> None:
        """Record that a rate denied a waiter: jobs that ask later would be denied, too."""
        admitted = self._admitted.pop(waitlist, 0)
        self._groups[waitlist] = admitted or self._groups.get(waitlist, 0) // 2

    def wake_group(self, waitlist: str) -> None:
        """Wake as many waiters, the asking first one included, as were lately admitted together."""
        for _ in range(self._groups.get(waitlist, 0) - 1):
            if not self._wake_next(waitlist):
                return

    def has_room(self, waitlist: str, seconds: float) -> bool:
        """Whether one more job may join whose turn is expected in `seconds`."""
        return self._spare() > 0 and (seconds <= SOON or self.wanted(waitlist) > 0)

    def _spare(self) -> int:
        """How many more of the worker's slots may be taken by jobs that only wait."""
        return self._slots() // 2 - self._waiting - len(self._ahead)

    def wanted(self, waitlist: str) -> int:
        """How many more waiters it takes to use up what the bucket will allow soon."""
        bucket = waitlist.removeprefix(URGENT)
        lately, since = self._lately[bucket], time.monotonic() - SUPPLY
        while lately and lately[0] < since:
            lately.popleft()
        supply = min(self._slots() // 2, max(1, self._in_flight[bucket], len(lately)))
        return min(supply - self.length(waitlist), self._spare())

    def length(self, waitlist: str) -> int:
        """How many jobs wait in it."""
        return len(self._waiters.get(waitlist, ()))

    def blocking(self, attempt: Attempt) -> str:
        """A bucket with waiters ahead of the attempt; '' if one of its routes has none."""
        found = ""
        for candidate in attempt.ask.candidates:
            buckets = [each.bucket for each in candidate.charges if waitlist_of(attempt, each.bucket) in self._waiters]
            if not buckets:
                return ""
            found = found or buckets[0]
        return found

    def first(self, waitlist: str) -> Waiter | None:
        """The first waiter; None if the waitlist is empty."""
        waiters = self._waiters.get(waitlist)
        return waiters[0] if waiters else None

    def add(self, waiter: Waiter) -> None:
        """Put a waiter at the end of its waitlist."""
        self._waiters.setdefault(waiter.waitlist, deque()).append(waiter)
        self._waiting += 1

    def remove(self, waiter: Waiter) -> None:
        """Take a waiter out of its waitlist."""
        waiters = self._waiters[waiter.waitlist]
        waiters.remove(waiter)
        self._waiting -= 1
        if not waiters:
            for by_waitlist in (self._waiters, self._groups, self._admitted):
                by_waitlist.pop(waiter.waitlist, None)
        elif not any(each.may_ask for each in waiters):
            self._wake_next(waiter.waitlist)
        elif not waiters[0].may_ask:
            waiters[0].promote()

    def recheck(self) -> None:
        """Let every waiter check whether it must still wait."""
        for waiters in self._waiters.values():
            for waiter in waiters:
                waiter.recheck()

    def _wake_next(self, waitlist: str) -> bool:
        """Wake the first waiter that isn't already asking. Returns False if there is none."""
        for waiter in self._waiters.get(waitlist, ()):
            if not waiter.may_ask:
                waiter.wake()
                return True
        return False
