"""The runtime of an event loop: a job's steps over its connections, and the loops that run beside the jobs.

The steps are in layers, each over the one before: connections.py, settling.py, reserving.py, calling.py.
"""

import asyncio
import logging
from typing import Any, ClassVar, Final
from weakref import WeakKeyDictionary

import redis

from limits.errors import ServerUnavailable
from tasks.jobs.calling import Calling
from workers.config.current import current_settings
from workers.pool.coroutine import at_loop_end

log = logging.getLogger(__name__)

#: Seconds between two exchanges of token ratios with other workers.
SYNC_EVERY: Final = 5.0

#: Seconds between two reads of the shared prices.
PRICES_EVERY: Final = 60.0

#: Seconds between two checks whether this worker's jobs must still wait, and their batches still run.
STOPS_EVERY: Final = 0.5

#: Seconds between two looks for settings that someone has changed.
SETTINGS_EVERY: Final = 1.0


class Runtime(Calling):
    """What one event loop needs to run jobs; all jobs in flight share it."""

    _of_loop: ClassVar["WeakKeyDictionary[asyncio.AbstractEventLoop, Runtime]"] = WeakKeyDictionary()

    @classmethod
    async def current(cls) -> "Runtime":
        """The running loop's runtime, made and started on first use."""
        loop = asyncio.get_running_loop()
        found = cls._of_loop.get(loop)
        if found is None:
            found = cls._of_loop[loop] = cls(current_settings())
            found.background = [
                loop.create_task(found._every(found.lease / 3, found.leases.renew)),
                loop.create_task(found._every(found.lease / 6, found.leases.sweep)),
                loop.create_task(found._every(STOPS_EVERY, found._check_waiters)),
                loop.create_task(found._every(SETTINGS_EVERY, found._settings)),
                loop.create_task(found._every(SYNC_EVERY, found._sync)),
                loop.create_task(found._every(PRICES_EVERY, found._prices)),
            ]
            at_loop_end(found.close)
        return found

    async def close(self) -> None:
        """Stop the background loops and close every connection."""
        for task in self.background:
            task.cancel()
        await asyncio.gather(*self.background, return_exceptions=True)
        for provider in [*self.providers.values(), *self.retired]:
            await provider.close()
        await self.server.aclose()
        await self.client.aclose()
        Runtime._of_loop.pop(asyncio.get_running_loop(), None)

    async def _every(self, seconds: float, step: Any) -> None:
        """Run a step every `seconds`. Errors are logged, and the loop goes on."""
        while True:
            try:
                await step()
            except (ServerUnavailable, redis.RedisError, OSError) as exc:
                log.warning("%s failed and will be tried again: %s", step.__name__.strip("_"), exc)
            except Exception:
                log.exception("%s failed", step.__name__.strip("_"))
            await asyncio.sleep(seconds)

    async def _check_waiters(self) -> None:
        """Find out which batches have stopped or are paused, and send jobs away that must not wait any longer."""
        try:
            await self.stops.look()
            await self.pauses.look()
            self.gates.hold(self.pauses.workflows())
        finally:
            self.waitlists.recheck()

    async def _settings(self) -> None:
        """Follow settings that someone has changed. If that fails, the next step does it."""
        await self.changed_settings.look()
        if (settings := current_settings()) is not self.settings:
            await self.use(settings)

    async def _sync(self) -> None:
        """Share the token ratios that this worker has learned."""
        await self.ratios.sync(self.client)

    async def _prices(self) -> None:
        """Read the prices that submits have shared."""
        await self.priced.take_over()
