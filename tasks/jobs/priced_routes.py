"""A worker's routes, at the prices that submits have shared. Missing prices are looked up once."""

import asyncio
import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING

from tasks.jobs import pricing
from tasks.jobs.pricing import LookUpFailed
from workers.config.settings import Settings
from workers.models import shared_prices
from workers.models.prices import Rates
from workers.models.routing import Routes

if TYPE_CHECKING:
    import redis.asyncio

#: How many look-ups are kept before expired ones are dropped.
MAX_LOOK_UPS = 2_000

#: Seconds until the price table is asked again about a model that it did not know.
ASK_AGAIN = 600.0

#: Seconds until the price table is asked again after it failed: each question starts a process, and one per job without
#: a price would be too many.
AFTER_FAILURE = 15.0


class PricedRoutes:
    """The routes at the current prices. `key`: the Redis key of the shared prices. `clock`: monotonic seconds."""

    def __init__(
        self,
        settings: Settings,
        client: "redis.asyncio.Redis",
        key: str,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.settings = settings
        self.client = client
        self.key = key
        self.clock = clock
        self.routes = Routes(settings)
        self.priced = False
        self.pricing = asyncio.Lock()
        #: The look-ups by target, each with the time of `clock` at which it expires.
        self.asked: dict[str, tuple[float, asyncio.Future[dict[str, Rates]]]] = {}

    async def ready(self) -> None:
        """Read the shared prices, if this hasn't been done yet."""
        if not self.priced:
            async with self.pricing:
                if not self.priced:
                    await self.take_over()

    async def take_over(self) -> None:
        """Read the prices that submits have shared."""
        self._take_prices(await shared_prices.fetch(self.client, self.key))

    async def look_up(self, target: str) -> None:
        """Look up a target's missing price, once for all jobs that need it.

        Raises LookUpFailed if the table did not answer: come back in `AFTER_FAILURE` seconds.
        """
        asked = self.asked.get(target)
        if asked is None or self.clock() >= asked[0]:
            if len(self.asked) >= MAX_LOOK_UPS:
                self.asked = {name: each for name, each in self.asked.items() if self.clock() < each[0]}
            finding = asyncio.ensure_future(pricing.ensure(self.settings, self.client, [target], strict=True))
            asked = self.asked[target] = (self.clock() + ASK_AGAIN, finding)
            finding.add_done_callback(partial(self._forget_failure, target))
        self._take_prices(await asyncio.shield(asked[1]))

    def _forget_failure(self, target: str, finding: "asyncio.Future[dict[str, Rates]]") -> None:
        """Let a job ask again: at once after a cancelled look-up, in `AFTER_FAILURE` seconds if the table failed."""
        if finding.cancelled():
            del self.asked[target]
        elif isinstance(failure := finding.exception(), LookUpFailed):
            self.asked[target] = (self.clock() + AFTER_FAILURE, finding)
        elif failure is not None:
            del self.asked[target]

    def _take_prices(self, shared: Mapping[str, Rates]) -> None:
        self.priced = True
        if shared != self.routes.prices:
            self.routes = self.routes.repriced(shared)
