"""A worker's routes, with the prices that submits have shared; what none has shared is looked up once."""

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

#: Look-ups that are remembered; of more, those that still hold.
MOST_ASKED = 2_000

#: Seconds until the price table is asked again about a model that it did not know, and where it did not answer: one
#: that is broken must not be asked, which takes a process, for each job that misses a price.
ASK_AGAIN, AFTER_FAILURE = 600.0, 15.0


class PricedRoutes:
    """The `routes` as of now. `key` is where the prices are shared, `clock` tells seconds that only go on."""

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
        #: The look-ups by target, each with the second of the clock until which it holds.
        self.asked: dict[str, tuple[float, asyncio.Future[dict[str, Rates]]]] = {}

    async def ready(self) -> None:
        """Return when the shared prices have been taken over for the first time."""
        if not self.priced:
            async with self.pricing:
                if not self.priced:
                    await self.take_over()

    async def take_over(self) -> None:
        """Take over the prices that submits have shared."""
        self._take_prices(await shared_prices.fetch(self.client, self.key))

    async def look_up(self, target: str) -> None:
        """Ask for the price of a target that no submit has shared; once for all jobs that miss it.

        LookUpFailed where the table did not answer: come back in `AFTER_FAILURE` seconds.
        """
        asked = self.asked.get(target)
        if asked is None or self.clock() >= asked[0]:
            if len(self.asked) >= MOST_ASKED:
                self.asked = {name: each for name, each in self.asked.items() if self.clock() < each[0]}
            finding = asyncio.ensure_future(pricing.ensure(self.settings, self.client, [target], strict=True))
            asked = self.asked[target] = (self.clock() + ASK_AGAIN, finding)
            finding.add_done_callback(partial(self._forget_failure, target))
        self._take_prices(await asyncio.shield(asked[1]))

    def _forget_failure(self, target: str, finding: "asyncio.Future[dict[str, Rates]]") -> None:
        """A look-up that failed says nothing of the price: the next job asks again, or who comes a little later."""
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
