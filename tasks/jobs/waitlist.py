"""The waitlist of one bucket in one worker: jobs that wait for a call to end, for a rate, or for their start.

A job that is denied could go back to its queue until a given time, but that time would be a guess: no one knows when a
call will end, or how soon a rate that is still being learned allows the next one. If the guess is too late, quota stays
unused; if it is too early, the job asks for nothing. So a few jobs wait here instead.

One task, the asker, lets the first waiters ask in one call of the admission: the number that was admitted last time,
then one more, then twice as many each time until one is denied. Then it sleeps until the time that the admission has
given, or until a call of this worker ends. A denied waiter keeps its place.
"""

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable
from contextlib import suppress
from itertools import islice
from typing import Final

from limits.reservation import Admitted, Answer, Denied
from tasks.jobs.bucket_calls import BucketCalls
from workers.transport.gates import LONG

#: Denials for which a job joins a waitlist: the first waiter's answer holds for all of them.
WAITLIST_REASONS: Final = frozenset({"concurrency", "rpm", "tpm", "itpm", "otpm", "pace", "pause"})

#: Seconds: if a pause lasts longer, no job waits here, and all go back to their queue. (For a rate: `LONG`.)
SHORT_PAUSE: Final = 1.0

#: Seconds between two questions while no call of this worker ends: calls of other workers end without a notice.
POLL: Final = 0.25

#: Seconds after a denial for which a bucket counts as full, though no job waits for it just now.
STAYS_FULL: Final = 1.0

#: The shortest time between two questions after a denial, in seconds.
SHORTEST_POLL: Final = 0.02


def opens_in(denied: Denied) -> float | None:
    """Seconds until a waitlist should ask again after this denial; None if no job should wait for it in a worker."""
    if denied.reason not in WAITLIST_REASONS or denied.retry_in is None or denied.opens_in is None:
        return None
    if denied.reason == "concurrency":
        return POLL
    longest = SHORT_PAUSE if denied.reason == "pause" else LONG
    return max(denied.opens_in, SHORTEST_POLL) if denied.opens_in <= longest else None


class Waiter:
    """One job in a waitlist. `ask` makes its request to the admission; `over` returns whether it must stop waiting.

    `turn` becomes True if it may ask, and False if it has to leave.
    """

    __slots__ = ("ask", "asking", "over", "turn")

    def __init__(self, ask: Callable[[], Awaitable[Answer]], over: Callable[[], bool]) -> None:
        self.ask = ask
        self.over = over
        self.asking = False
        self.turn: asyncio.Future[bool] = asyncio.get_running_loop().create_future()

    def wake(self, may_ask: bool) -> None:
        """End its wait, unless that has ended already."""
        if not self.turn.done():
            self.asking = may_ask
            self.turn.set_result(may_ask)


class Waitlist:
    """The waiters of `bucket`, in order.

    `full`: a job was denied since the waitlist was last empty. If False, its jobs wait only until they may start.
    `denied_at`: when a job was last denied, or admitted far ahead of its time, in monotonic seconds.
    """

    def __init__(self, bucket: str, calls: BucketCalls) -> None:
        self.bucket = bucket
        self.calls = calls
        self.waiters: deque[Waiter] = deque()
        self.full = False
        self.denied_at = -STAYS_FULL
        self._asker: asyncio.Task[None] | None = None
        self._woken = asyncio.Event()
        self._opens = 0.0  # when to ask again, in monotonic seconds
        self._together = 0  # how many may ask in the next call; 0: all that may start
        self._admitted = 0  # since the last denial
        self._freed = 0  # calls in flight that have ended since the last question
        self._doubles = False  # all have been admitted since the last denial, and one more after them
        self._answers: list[Answer] = []  # of the call under way

    @property
    def free(self) -> bool:
        """Whether a job may ask without waiting."""
        return not self.waiters and self.calls.room() > 0

    @property
    def limits(self) -> bool:
        """Whether the bucket is full, or was just now."""
        return self.full or time.monotonic() - self.denied_at < STAYS_FULL

    async def wait(self, ask: Callable[[], Awaitable[Answer]], over: Callable[[], bool]) -> Answer | None:
        """Wait for an answer and return it: an admission, or a denial that it can't wait out; None if sent away."""
        waiter = Waiter(ask, over)
        self.waiters.append(waiter)
        if self._asker is None:
            self._asker = asyncio.create_task(self._let_ask(), name=f"waitlist {self.bucket}")
        try:
            while await waiter.turn:
                answer = await waiter.ask()
                self._answers.append(answer)
                if not self.denied(answer):
                    return answer
                waiter.turn = asyncio.get_running_loop().create_future()
                waiter.asking = False
                self._woken.set()
            return None
        finally:
            waiter.asking = False
            self.waiters.remove(waiter)
            self._woken.set()

    def denied(self, answer: Answer) -> bool:
        """Note an answer. Returns whether the waiter stays: it was denied by this bucket, and not for long."""
        seconds = opens_in(answer) if isinstance(answer, Denied) and answer.subject == self.bucket else None
        if seconds is not None:
            self.full, self.denied_at = True, time.monotonic()
            self._opens = self.denied_at + seconds
        return seconds is not None

    def wake(self) -> None:
        """Another call may start."""
        if self.waiters:
            self._woken.set()

    def freed(self) -> bool:
        """A call in flight has ended: one more waiter may ask. Returns False if there is none."""
        if self._freed >= len(self.waiters):
            return False
        self._freed += 1
        self._woken.set()
        return True

    def recheck(self) -> None:
        """Send the waiters away that must not wait any longer."""
        for waiter in self.waiters:
            if waiter.over():
                waiter.wake(may_ask=False)

    def ask_now(self) -> None:
        """Let the first waiters ask now: the limits have changed."""
        self._opens = 0.0
        self._woken.set()

    def send_away(self, count: int) -> None:
        """Send the last `count` waiters away."""
        for waiter in islice(reversed(self.waiters), max(0, count)):
            waiter.wake(may_ask=False)

    async def _let_ask(self) -> None:
        """Let the first waiters ask, again and again, until none is left."""
        try:
            while self.waiters:
                while (seconds := self._pause()) > 0:
                    await self._sleep(seconds)
                if few := self._first():
                    for waiter in few:
                        waiter.wake(may_ask=True)
                    while any(waiter.asking for waiter in few):
                        await self._sleep(None)
                    self._learn()
                else:
                    await asyncio.sleep(0)  # those that were sent away leave
        finally:
            self.send_away(len(self.waiters))
            self.full, self._together, self._admitted, self._freed, self._opens = False, 0, 0, 0, 0.0
            self._asker = None

    async def _sleep(self, seconds: float | None) -> None:
        """Sleep until something happens, at most `seconds`."""
        self._woken.clear()
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._woken.wait()

    def _pause(self) -> float:
        """Seconds until the next question; 0 if it is due."""
        if not self.waiters:
            return 0.0
        if self.calls.room() <= 0:
            return POLL
        return 0.0 if self._freed else self._opens - time.monotonic()

    def _first(self) -> list[Waiter]:
        """The waiters that ask now. Those that must not wait any longer are sent away."""
        most = min(self._freed or self._together or len(self.waiters), self.calls.room())
        few: list[Waiter] = []
        for waiter in self.waiters:
            if len(few) >= most:
                break
            if waiter.over():
                waiter.wake(may_ask=False)
            else:
                few.append(waiter)
        self._freed, self._answers = 0, []
        return few

    def _learn(self) -> None:
        """Note how many were admitted together. The next question is for as many, or for more if none was denied."""
        admitted = sum(isinstance(answer, Admitted) for answer in self._answers)
        self._admitted += admitted
        if any(isinstance(answer, Denied) for answer in self._answers):
            self._together, self._admitted, self._doubles = max(1, self._admitted), 0, False
        elif self.full:
            self._together, self._doubles = 2 * self._together if self._doubles else 1, True
