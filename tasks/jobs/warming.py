"""One call fills a provider's prompt cache, and the others with the same prefix follow.

An entry of a cache is there once the answer of the call that wrote it has begun. Calls with the same prefix that go out
together would all be paid in full. So the first of them goes ahead, whichever worker has it, and the others wait until
it is answered, each in its slot, but for `HOLD` seconds at most.
"""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING

from redis.exceptions import RedisError

from limits.keys import Keys
from workers.pool.coroutine import worker_is_stopping

if TYPE_CHECKING:
    import redis.asyncio

#: Seconds for which a place counts as warm after an answer. Providers keep a prompt for five minutes; but each place is
#: a key in Redis, also that of a prompt that shares nothing.
WARM = 60.0

#: Seconds after which a call goes out even if the first one isn't answered: a long answer has begun by then.
HOLD = 15.0

#: Seconds between two looks.
POLL = 0.25

#: Places that are known before those are forgotten that are no longer warm.
MAX_KNOWN = 10_000


class Warming:
    """The caches that this worker knows of. A place is a prefix at an account. Times are monotonic seconds."""

    def __init__(self, client: "redis.asyncio.Redis", keys: Keys) -> None:
        self._client = client
        self._keys = keys
        self._warm: dict[str, float] = {}  # by place: until when
        self._looked: dict[str, float] = {}  # by place that is not warm: when Redis was last asked

    @asynccontextmanager
    async def turn(self, place: str) -> AsyncIterator[None]:
        """Wait until a call may go to `place`. The first one goes at once; if it isn't answered, the next is first."""
        first = bool(place) and await self._wait(place)
        try:
            yield
        finally:
            if first and not self._is_warm(place):
                self._looked.pop(place, None)
                with suppress(RedisError):
                    await self._client.delete(self._keys.warm(place))

    async def answered(self, place: str) -> None:
        """A call was answered there: its prefix is in the cache, and lives on."""
        now = time.monotonic()
        if self._warm.get(place, 0.0) - now > WARM / 2:
            return
        self._note(place, WARM)
        with suppress(RedisError):
            await self._client.set(self._keys.warm(place), b"1", px=round(WARM * 1_000))

    async def _wait(self, place: str) -> bool:
        """Wait until the place is warm; returns whether this call is the first there."""
        ends = time.monotonic() + HOLD
        while not self._is_warm(place):
            if await self._is_first(place):
                return True
            if self._is_warm(place) or worker_is_stopping():
                break
            if time.monotonic() >= ends:
                self._note(place, WARM / 2)  # the others needn't wait as long
                break
            await asyncio.sleep(POLL)
        return False

    async def _is_first(self, place: str) -> bool:
        """Whether nobody else has a call there. If it is warm, that is noted. All that wait ask once in `POLL`."""
        now = time.monotonic()
        if now - self._looked.get(place, -POLL) < POLL:
            return False
        self._looked[place] = now
        try:
            found = await self._client.set(self._keys.warm(place), b"0", nx=True, get=True, px=round(WARM * 1_000))
        except RedisError:
            self._note(place, POLL)  # don't wait: the admission reports it
            return False
        if found == b"1":
            self._note(place, HOLD)
        return found is None

    def _is_warm(self, place: str) -> bool:
        return time.monotonic() < self._warm.get(place, 0.0)

    def _note(self, place: str, seconds: float) -> None:
        now = time.monotonic()
        if len(self._warm) >= MAX_KNOWN:
            self._warm = {name: until for name, until in self._warm.items() if until > now}
            self._looked = {name: at for name, at in self._looked.items() if now - at < POLL}
        self._warm[place] = now + seconds
        self._looked.pop(place, None)
