"""Calls that find what an earlier call has put into a provider's prompt cache.

A cache belongs to an account, so jobs with the same prefix prefer the same one (`Routes.order`): if its quota is used
up, another takes the call. OpenAI gets a `prompt_cache_key`, which leads to the same machine.
"""

from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from typing import Any

from tasks.jobs.attempt import Attempt
from tasks.jobs.delivery import Delivery
from workers.config.settings import Settings
from workers.models.routing import NoRoute, Route
from workers.providers.prompt_prefix import CACHE_KEY, prefix_of


@asynccontextmanager
async def turn(delivery: Delivery) -> AsyncIterator[None]:
    """Set the delivery's prefix, and wait while another call is to fill the cache that it prefers (warming.py)."""
    line, runtime = delivery.job.line, delivery.runtime
    if not delivery.workflow.prompt_cache or not (prefix := prefix_of(line.url, line.body)):
        yield
        return
    delivery.prefix = prefix
    try:
        route, *_ = runtime.routes.order(runtime.routes.find(line.model, line.url), prefix)
    except NoRoute:  # the admission says what is wrong
        yield
        return
    async with runtime.warming.turn(_place(prefix, route)):
        yield


async def answered(delivery: Delivery, attempt: Attempt) -> None:
    """A call was answered, so what it shares with others is in the cache of its account."""
    if delivery.prefix:
        await delivery.runtime.warming.answered(_place(delivery.prefix, attempt.route))


def _place(prefix: str, route: Route) -> str:
    """A prefix at an account; keys that share a quota are one account."""
    return f"{prefix}:{route.buckets[0][0]}"


def keyed(
    bodies: Mapping[str, dict[str, Any]], routes: Iterable[Route], settings: Settings, prefix: str
) -> dict[str, dict[str, Any]]:
    """The bodies by target, with a `prompt_cache_key` for each provider that takes one."""
    takes = {route.target for route in routes if settings.providers[route.provider].takes_cache_key}
    return {target: {CACHE_KEY: prefix, **body} if target in takes else dict(body) for target, body in bodies.items()}
