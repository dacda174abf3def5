"""Routes: which provider, model and key may take a call, and what the call would cost there.

A model's name leads to targets, each with a weight and one route for each of its provider's keys. For a call, the
routes are put into random order by weight. Admission takes the first that can go out now, else the one that can go
soonest.
"""

import hashlib
import random
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, replace
from typing import ClassVar

from limits.bucket import Quota
from limits.counting import Costs, Estimate, Profile, admission, certain
from limits.reservation import Candidate, Charge
from workers.config.settings import ProviderSettings, Settings, UnknownModel
from workers.models.prices import Rates, resolve
from workers.models.tiers import BATCH, CHEAPER, FLEX, apart, tiers
from workers.providers import ENDPOINTS_BY_API
from workers.providers.counting_profiles import profile

#: The most models that no provider lists, within `UNLISTED_SECONDS`. Each costs memory here, and keys and rows of the
#: ledger in Redis.
MAX_UNLISTED = 1_000

#: Seconds for which an unlisted model counts after its last call.
UNLISTED_SECONDS = 86_400.0

#: Dimensions in which a single request can be larger than the whole limit.
SIZES = ("tpm", "itpm", "otpm", "tpd")


#: The quota of a bucket that only pauses.
_UNLIMITED = Quota()


class NoRoute(ValueError):  # noqa: N818 - named after what happened
    """No configured target can take the call. The message says why and how to fix it. `code`: the job's error code."""

    code: ClassVar[str] = "invalid_request"


class TooManyModels(NoRoute):
    """Jobs have named too many models that no provider lists."""

    def __init__(self) -> None:
        super().__init__(
            f"body.model: {MAX_UNLISTED:,} models that no provider lists were called within a day; "
            "list the models that you use under [providers.NAME.models]"
        )


class NotConfigured(NoRoute):
    """This process's configuration has no such model or agent. Another worker's may."""


class NoPrice(NotConfigured):
    """A budget applies, and the target has no known price."""

    code: ClassVar[str] = "no_price"

    def __init__(self, target: str) -> None:
        super().__init__(
            f"{target} has no price, and a budget applies: set its input_usd_per_mtok and output_usd_per_mtok"
        )
        self.target = target


@dataclass(frozen=True, slots=True)
class Route:
    """A target through one of its provider's keys.

    `weight` is the target's share of the calls, divided among its keys. `buckets` are the ids and quotas that a call
    draws on: the model's own, then the account's if it has one. `target` is `provider/model`; `scope` is the model
    within the account. `tiers` are its prices by the Batch API and in service tiers; `tier` is the one that it takes.
    """

    provider: str
    model: str
    key: int
    weight: float
    circuit: str
    account: str
    buckets: tuple[tuple[str, Quota], ...]
    profile: Profile
    rates: Rates | None
    tiers: Mapping[str, Rates] = field(default_factory=dict, compare=False)
    tier: str = ""
    target: str = field(init=False, compare=False)
    scope: str = field(init=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "target", f"{self.provider}/{self.model}")
        object.__setattr__(self, "scope", f"{self.account}/{self.model}")

    def at_tier(self, tier: str) -> "Route":
        """The same route for a call that asks for a service tier. It holds the most that the call may be billed.

        A provider may serve a cheaper tier at its standard price, so that is held for it, and its answer names the tier
        that it billed. What flex refuses says nothing about other calls: it has a pause and a circuit of its own.
        """
        rates = self.tiers.get(tier)
        if tier == FLEX:
            pause = apart(self.buckets[0][0]), _UNLIMITED
            return replace(self, tier=tier, circuit=apart(self.circuit), buckets=(*self.buckets, pause))
        if rates is None or tier in CHEAPER:
            return self
        return replace(self, tier=tier, rates=rates, tiers={**self.tiers, "": self.rates} if self.rates else self.tiers)

    def billed_at(self, tier: str) -> Rates | None:
        """The prices of a call whose answer names this tier, '' if it names none."""
        if self.tier == BATCH or not tier:
            return self.rates
        return self.tiers.get(tier) or self.tiers.get("") or self.rates

    def candidate(
        self, estimate: Estimate, row: str = "", *, not_before: float = 0.0, fallback: bool = False
    ) -> Candidate:
        """What the call would draw on this route, at its highest cost. The other arguments are the candidate's."""
        costs, least = admission(self.profile, estimate), certain(self.profile, estimate)
        return Candidate(
            circuit=self.circuit,
            account=self.account,
            charges=tuple(Charge(bucket, quota, _fitted(quota, costs, least)) for bucket, quota in self.buckets),
            amount=self.rates.ceiling(estimate) if self.rates else 0,
            row=row,
            scope=self.scope,
            not_before=not_before,
            fallback=fallback,
        )

    def charged(self, costs: Costs) -> tuple[dict[str, int], ...]:
        """`costs` in each bucket, in the dimensions that its quota limits."""
        return tuple(_limited(quota, costs) for _, quota in self.buckets)

    def too_large(self, estimate: Estimate) -> str | None:
        """Why this call can never take this route, None if it can."""
        costs = certain(self.profile, estimate)._asdict()
        for bucket, quota in self.buckets:
            for dimension in SIZES:
                limit = getattr(quota, dimension)
                if limit is not None and costs[dimension] > limit:
                    return f"about {costs[dimension]:,} tokens, and {bucket} allows {limit:,} {dimension}"
        return None


def _limited(quota: Quota, costs: Costs) -> dict[str, int]:
    """The costs in the dimensions that this quota limits."""
    return {dimension: getattr(costs, dimension) for dimension in quota.limits}


def _fitted(quota: Quota, costs: Costs, least: Costs) -> dict[str, int]:
    """The costs in the dimensions that this quota limits, cut to the limit as far as they are only a forecast.

    If the answer turns out longer, the difference becomes debt when the call is settled.
    """
    return {
        dimension: max(getattr(least, dimension), min(getattr(costs, dimension), limit))
        for dimension, limit in quota.limits.items()
    }


def _uniform(route: Route, prefix: str) -> float:
    """A number from 0 to 1: random, or of the prefix and the account."""
    if not prefix:
        return random.random()
    digest = hashlib.blake2b(f"{prefix} {route.scope}".encode(), digest_size=8).digest()
    return int.from_bytes(digest) / (1 << 64)


class Routes:
    """The routes of every model, built from the settings on first use."""

    def __init__(
        self,
        settings: Settings,
        prices: Mapping[str, Rates] | None = None,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.settings = settings
        self.prices = prices or {}
        self._found: dict[tuple[str, str], tuple[Route, ...]] = {}
        self._clock = clock
        self._unlisted: dict[str, float] = {}  # model -> time of its last call

    def repriced(self, prices: Mapping[str, Rates]) -> "Routes":
        """The same routes with other prices."""
        routes = Routes(self.settings, prices, clock=self._clock)
        routes._unlisted = self._unlisted
        return routes

    def find(self, model: str, url: str) -> tuple[Route, ...]:
        """Every route for this model and url. Raises NoRoute if there is none."""
        found = self._found.get((model, url))
        if found is None:
            found = self._found[model, url] = self._build(model, url)
        elif model in self._unlisted:
            self._unlisted[model] = self._clock()
        return found

    def _remember(self, model: str) -> None:
        """Note a call of an unlisted model. Raises TooManyModels if there were `MAX_UNLISTED` others lately."""
        now = self._clock()
        if len(self._unlisted) >= MAX_UNLISTED and model not in self._unlisted:
            for old in [name for name, at in self._unlisted.items() if now - at > UNLISTED_SECONDS]:
                del self._unlisted[old]
                self._found = {key: routes for key, routes in self._found.items() if key[0] != old}
            if len(self._unlisted) >= MAX_UNLISTED:
                raise TooManyModels
        self._unlisted[model] = now

    def order(self, routes: Collection[Route], prefix: str = "") -> list[Route]:
        """The routes in random order by weight; calls with the same `prefix` have the same order.

        Each route gets the key u^(1/weight) with a uniform u (Efraimidis and Spirakis, 2006), so each is first with the
        probability of its share of the weights. With a prefix, u is a hash of it and the account (rendezvous hashing).
        """
        if len(routes) > 1:
            return sorted(routes, key=lambda route: _uniform(route, prefix) ** (1.0 / route.weight), reverse=True)
        return list(routes)

    def _build(self, model: str, url: str) -> tuple[Route, ...]:
        try:
            targets = self.settings.find_model(model)
        except UnknownModel as exc:
            raise NotConfigured(f"body.model: {exc}") from None
        if model not in self.settings.model_names and model.partition("/")[2] not in self.settings.model_names:
            self._remember(model)
        routes: list[Route] = []
        served: set[str] = set()
        for name, target, weight in targets:
            provider = self.settings.providers[name]
            served |= ENDPOINTS_BY_API[provider.api]
            if url in ENDPOINTS_BY_API[provider.api]:
                routes.extend(self._routes_of(name, provider, target, weight))
        if not routes:
            raise NotConfigured(
                f'model "{model}" is not served at {url}: its targets serve {", ".join(sorted(served))}'
            )
        return tuple(routes)

    def _routes_of(self, name: str, provider: ProviderSettings, model: str, weight: float) -> list[Route]:
        limits = self.settings.model(name, model)
        keys = max(1, provider.key_count)
        account = provider.quota()
        rates = resolve(limits, self.prices, f"{name}/{model}")
        priced = tiers(limits, self.prices, f"{name}/{model}", rates, provider.batch_kind)
        routes = []
        for key in range(keys):
            bucket = 0 if provider.shared_quota else key
            buckets = [(f"{name}/{bucket}/{model}", limits.quota())]
            if account is not None:
                buckets.append((f"{name}/{bucket}", account))
            routes.append(
                Route(
                    provider=name,
                    model=model,
                    key=key,
                    weight=weight / keys,
                    circuit=f"{name}/{model}",
                    account=f"{name}/{key}",
                    buckets=tuple(buckets),
                    profile=profile(provider.counting_name, model),
                    rates=rates,
                    tiers=priced,
                )
            )
        return routes
