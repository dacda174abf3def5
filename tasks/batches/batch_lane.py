"""What the batch lane can carry: which lines, by which route, at what price, within which limits.

A line that it cannot carry goes live: an agent's, one at a url or with fields that the provider's Batch API doesn't
take, one that is too large, and one without a price under a budget.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final, cast

from limits.counting import Estimate
from tasks.batches.batch import Batch
from tasks.batches.lane_times import LaneTimes
from tasks.batches.store import Store
from tasks.jobs.attempt import assess
from tasks.jobs.job import Line
from workers.config.settings import Settings
from workers.models import budgets, shared_prices, tokens
from workers.models.calibration import Ratios
from workers.models.prices import Rates
from workers.models.routing import NoRoute, Route, Routes
from workers.models.tiers import BATCH
from workers.providers.batch_api import BatchApi, Limits
from workers.providers.batch_apis import batch_api

#: Lines of a chunk at most, whatever the provider takes: its results are held in memory line by line.
MAX_LINES: Final = 50_000

#: A chunk holds at most this part of its smallest budget, so that a chunk leaves money for others.
BUDGET_PART: Final = 0.25

#: Seconds for which lines of an account and model go live after its Batch API has refused a chunk.
REFUSED_FOR: Final = 3_600

#: Tiers that a line may name in the batch lane: those that leave the choice to the provider.
_TIERS: Final = frozenset({None, "auto", "default"})


@dataclass(frozen=True, slots=True)
class Fit:
    """A line that the batch lane can carry: as it is sent, and what it holds at batch prices."""

    route: Route
    body: dict[str, Any]
    estimate: Estimate
    held: int


class Carriers:
    """The Batch APIs of the configured providers, and which line each carries."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self._apis: dict[str, BatchApi | None] = {}

    def api(self, provider: str) -> BatchApi | None:
        """The Batch API of a provider; None if it has none."""
        if provider not in self._apis:
            self._apis[provider] = batch_api(provider, self.settings.providers[provider])
        return self._apis[provider]

    def route(self, line: Line, routes: Sequence[Route], *, budgeted: bool) -> Route | None:
        """The one of a line's routes that carries it in the batch lane; None if it goes live."""
        if line.agent or line.body.get("service_tier") not in _TIERS:
            return None
        able = [route for route in routes if (api := self.api(route.provider)) is not None and line.url in api.urls]
        if not able or (budgeted and any(route.rates is None for route in able)):
            return None
        return max(able, key=lambda each: each.weight)

    def close(self) -> None:
        """Close every connection."""
        for api in self._apis.values():
            if api is not None:
                api.close()


class BatchLane:
    """The batch lane of one batch, with the prices and token counts as of now."""

    def __init__(self, store: Store, settings: Settings, batch: Batch) -> None:
        self.store = store
        self.settings = settings
        self.carriers = Carriers(settings)
        self._refused: dict[str, bool] = {}
        self.times = LaneTimes(store)
        self._enqueued: dict[str, int | None] = {}
        self.workflow = settings.workflow(batch.workflow)
        self.limits = [limit for _, limit in budgets.limits(settings, batch.workflow)]
        self.ratios = Ratios(store.keys.token_ratios)
        self.ratios.load(store.client.hgetall(store.keys.token_ratios))

    @cached_property
    def routes(self) -> Routes:
        """The routes of every model, at the shared prices."""
        tokens.load_tokenizer()
        return Routes(self.settings, shared_prices.decode(self.store.client.hgetall(self.store.keys.prices)))

    @property
    def most_money(self) -> float:
        """n$ that a chunk may hold at most."""
        return min(self.limits, default=float("inf")) * BUDGET_PART

    def api(self, provider: str) -> BatchApi | None:
        """The Batch API of a provider; None if it has none."""
        return self.carriers.api(provider)

    def limits_of(self, route: Route) -> Limits:
        """The limits of a route's Batch API."""
        api = self.api(route.provider)
        assert api is not None
        return api.limits

    def enqueued_tokens(self, target: str) -> int | None:
        """Input tokens of a target that may be in its provider's queue; None if unknown."""
        if target not in self._enqueued:
            provider, _, model = target.partition("/")
            known = self.settings.model(provider, model).batch_enqueued_tokens
            learned = cast("bytes | None", self.store.client.hget(self.store.keys.lane_limits, target))
            self._enqueued[target] = min((int(each) for each in (known, learned) if each), default=None)
        return self._enqueued[target]

    def learn_enqueued_tokens(self, target: str, limit: int) -> None:
        """Note how many tokens a provider takes, as its refusal said."""
        self._enqueued.pop(target, None)
        self.store.client.hset(self.store.keys.lane_limits, target, limit)
        self.store.client.expire(self.store.keys.lane_limits, 30 * 86_400)

    def refuse(self, scope: str) -> None:
        """Note that the Batch API has refused an account's model: its lines go live for `REFUSED_FOR` seconds."""
        self.store.client.set(self.store.keys.lane_refused(scope), 1, ex=REFUSED_FOR)
        self._refused[scope] = True

    def is_refused(self, scope: str) -> bool:
        """Whether the Batch API has refused this account's model lately."""
        if scope not in self._refused:
            self._refused[scope] = bool(self.store.client.exists(self.store.keys.lane_refused(scope)))
        return self._refused[scope]

    def rates(self, route: Route) -> Rates | None:
        """A route's prices in the batch lane."""
        return route.tiers.get(BATCH)

    def fit(self, line: Line) -> Fit | None:
        """How the batch lane carries a line; None if it cannot."""
        if line.agent:
            return None
        try:
            every = self.routes.find(line.model, line.url)
        except NoRoute:
            return None
        route = self.carriers.route(line, every, budgeted=bool(self.limits))
        if route is None or self.is_refused(route.scope):
            return None
        bodies, estimates = assess(line, [route], self.workflow, budgeted=bool(self.limits), ratios=self.ratios)
        estimate, rates = estimates[route.target], self.rates(route)
        body = {**bodies[route.target], "model": route.model}
        return Fit(route, body, estimate, rates.ceiling(estimate) if rates is not None else 0)
