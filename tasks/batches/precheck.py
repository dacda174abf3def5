"""Finds lines that every worker would refuse, before anything is queued.

Such a line is larger than a limit of every target, can cost more than a whole budget, or has no price or a surcharge
although a budget applies. Submit reports it with the file's other problems.
"""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from math import inf
from typing import Final

from limits.counting import UNKNOWN_OUTPUT, Estimate
from tasks.agents import registry
from tasks.jobs import surcharges
from tasks.jobs.attempt import DEFAULT_OUTPUT, assess
from tasks.jobs.job import Line
from workers.config.settings import Settings
from workers.figures import dollars
from workers.models import budgets
from workers.models.prices import MILLION, Rates
from workers.models.routing import SIZES, NoPrice, NoRoute, Route, Routes
from workers.models.tokens import PROMPT_CEILING
from workers.providers import embeddings
from workers.providers.endpoints import CHAT, EMBEDDINGS

Prices = Callable[[Collection[str]], Mapping[str, Rates]]
"""Looks up the prices of the given targets; returns all shared prices."""


@dataclass(frozen=True, slots=True)
class _Known:
    """What is known of a model at a url: its own routes, its fallback's, and whether a line needs a look."""

    own: tuple[Route, ...]
    fallback: tuple[Route, ...]
    bounded: bool
    most_tokens: float = 0.0
    highest: int = 0
    fee: int = 0


#: Models that are remembered, if no target takes their lines. A hostile file may name millions.
MOST_KNOWN: Final = 1_000

#: Bytes of a request that every provider takes.
SMALL: Final = 1_000_000

#: The fields of a plain chat: its tokens are bounded by its bytes, so they need not be counted.
_PLAIN: Final = frozenset(
    {"model", "messages", "max_tokens", "max_completion_tokens", "temperature", "top_p", "stop", "seed", "user"}
)


class Precheck:
    """The check of one workflow's lines. `prices` is called once for each model."""

    def __init__(self, settings: Settings, workflow: str, prices: Prices) -> None:
        self.settings = settings
        self.name = workflow
        self.workflow = settings.workflow(workflow)
        self.budgets = budgets.limits(settings, workflow)
        self._prices = prices
        self._routes = Routes(settings)
        self._known: dict[tuple[str, str], _Known | NoRoute] = {}

    def check(self, line: Line, size: int = 0) -> None:
        """NoRoute if no target can ever take the line; the message says why, and how to fix it.

        With `size`, the line's bytes, most lines need no count of their tokens: their bytes show that they fit.
        """
        if line.agent:
            registry.find(self.settings, line.agent, self.name)
            return
        known = self._known.get((line.model, line.url))
        if known is None:
            known = self._look(line.model, line.url)
            if isinstance(known, _Known) or len(self._known) < MOST_KNOWN:
                self._known[line.model, line.url] = known
        if isinstance(known, NoRoute):
            raise known.with_traceback(None)  # its traceback would keep every line that it was raised for
        if self.budgets:
            surcharges.check(self.settings, line, (*known.own, *known.fallback))
        if size > SMALL or line.url == EMBEDDINGS:
            self._check_sizes(line, size, known.own)
        if not known.bounded or (size and self._surely_fits(line, size, known)):
            return
        too_large, too_expensive = self._reasons(line, known.own)
        if too_large or too_expensive:
            if not too_expensive or not known.fallback:
                raise NoRoute(too_large or too_expensive)
            large, expensive = self._reasons(line, known.fallback)
            if large or expensive:
                raise NoRoute(large or expensive)

    def _check_sizes(self, line: Line, size: int, routes: tuple[Route, ...]) -> None:
        """NoRoute if no provider takes a request of `size` bytes, or its answer would be too large to read."""
        largest = max(self.settings.providers[route.provider].largest_request for route in routes)
        if size > largest:
            raise NoRoute(
                f"has {size / 1e6:,.1f} MB, and {routes[0].target} takes requests of {largest / 1e6:,.0f} MB at most: "
                f"make it smaller, or raise max_request_mb of providers.{routes[0].provider}"
            )
        if line.url == EMBEDDINGS and (large := embeddings.too_large(line.body, routes[0].model)):
            raise NoRoute(large)

    def routes(self, line: Line) -> tuple[Route, ...]:
        """The routes of a line that has passed and calls a model, with their prices."""
        known = self._known[line.model, line.url]
        assert isinstance(known, _Known)
        return known.own

    def stronger(self, line: Line) -> tuple[Route, ...]:
        """The routes of the model that a line's last answer comes from, with their prices; empty if there is none."""
        if self.workflow.escalate is None:
            return ()
        name = (self.workflow.escalate, line.url)
        known = self._known.get(name)
        if known is None:
            known = self._known[name] = self._look(*name)
        return known.own if isinstance(known, _Known) else ()

    def _look(self, model: str, url: str) -> _Known | NoRoute:
        try:
            own = self._priced(model, url)
            cheaper = self.workflow.cheaper_than(model)
            fallback = self._priced(cheaper, url) if cheaper and self.budgets else ()
        except NoRoute as exc:
            exc.__context__ = None
            return exc.with_traceback(None)
        sized = any(quota.limits for route in own for _, quota in route.buckets)
        limits = [getattr(quota, name) or inf for route in own for _, quota in route.buckets for name in SIZES]
        rates = [route.rates for route in own if route.rates is not None]
        return _Known(
            own,
            fallback,
            bounded=sized or bool(self.budgets),
            most_tokens=min(limits, default=inf),
            highest=max((rate.highest for rate in rates), default=0),
            fee=max((rate.request for rate in rates), default=0),
        )

    def _surely_fits(self, line: Line, size: int, known: _Known) -> bool:
        """Whether a chat that is only text fits into every limit, even if each byte were two tokens."""
        body = line.body
        if line.url != CHAT or not _PLAIN.issuperset(body):
            return False
        if any(type(turn.get("content")) is not str for turn in body["messages"]):
            return False
        stated = max(body.get("max_tokens") or 0, body.get("max_completion_tokens") or 0)
        output = stated or self.workflow.default_max_tokens or DEFAULT_OUTPUT
        most = 2 * size + PROMPT_CEILING + max(output, UNKNOWN_OUTPUT)
        if most > known.most_tokens:
            return False
        amount = -(-most * known.highest // MILLION) + known.fee
        return all(amount <= limit for _, limit in self.budgets)

    def _priced(self, model: str, url: str) -> tuple[Route, ...]:
        routes = self._routes.find(model, url)
        if missing := {route.target for route in routes if route.rates is None}:
            self._routes = self._routes.repriced({**self._routes.prices, **self._prices(missing)})
            routes = self._routes.find(model, url)
        for route in routes:
            if self.budgets and route.rates is None:
                raise NoPrice(route.target)
        return routes

    def _reasons(self, line: Line, routes: tuple[Route, ...]) -> tuple[str, str]:
        """Why no route can take the line: for its size, and for its price; both empty if one can."""
        _, estimates = assess(line, routes, self.workflow, budgeted=bool(self.budgets))
        too_large = too_expensive = ""
        for route in (each.at_tier(line.tier) for each in routes):
            estimate = estimates[route.target]
            if large := route.too_large(estimate):
                too_large = too_large or f"the request is larger than a limit: {large}; make it smaller"
            elif expensive := self._too_expensive(route, estimate):
                too_expensive = too_expensive or expensive
            else:
                return "", ""
        return too_large, too_expensive

    def _too_expensive(self, route: Route, estimate: Estimate) -> str:
        amount = route.rates.ceiling(estimate) if route.rates else 0
        for subject, limit in self.budgets:
            if amount > limit:
                return (
                    f"can cost up to {dollars(amount)} at {route.target}, more than the whole budget of "
                    f"{subject}, {dollars(limit)}: lower its max_tokens, or raise the budget"
                )
        return ""
