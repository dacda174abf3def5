"""Prices of the models that jobs may go to: looked up once, and shared with all workers through Redis.

Whoever submits asks the price table, which runs as a process of its own (models/prices.py). A worker does so only
for a model that nobody has looked up yet, such as one in a stock producer's job. Providers on this machine or in a
private network are in no table and are not asked about.
"""

import asyncio
import ipaddress
import logging
import subprocess
import time
from collections.abc import Collection, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from limits.client.connection import open_async_client
from limits.keys import Keys
from workers.config.settings import Settings, SettingsError
from workers.embedded import server_url
from workers.models import price_lookup, shared_prices
from workers.models.price_lookup import Query
from workers.models.prices import Rates, configured
from workers.pool.threads import to_thread

if TYPE_CHECKING:
    import redis.asyncio

log = logging.getLogger(__name__)

#: Seconds after which a shared price is looked up again: the table comes with a package, which is upgraded.
FRESH: Final = 86_400.0


class LookUpFailed(Exception):  # noqa: N818 - names what happened
    """The price table did not answer, which says nothing about any price: ask again later."""


async def ensure(
    settings: Settings, client: "redis.asyncio.Redis", targets: Collection[str], *, strict: bool = False
) -> dict[str, Rates]:
    """All shared prices, after those of `targets` (`provider/model`) that are missing or old were looked up.

    Where that fails, those that are shared already; with `strict`, LookUpFailed if one of `targets` is not among them.
    """
    key = Keys(settings.namespace).prices
    shared = await shared_prices.fetch(client, key)
    old = time.time() - FRESH
    asked = [each for each in queries(settings, targets) if each.name not in shared or shared[each.name].at < old]
    if asked:
        try:
            found = await to_thread("lookups", price_lookup.lookup, asked)
        except (OSError, ValueError, subprocess.SubprocessError) as exc:
            log.warning("prices could not be looked up: %s", exc)
            if strict and (missing := [each.name for each in asked if each.name not in shared]):
                raise LookUpFailed(f"the price of {', '.join(missing)} could not be looked up: {exc}") from exc
            return shared
        await shared_prices.publish(client, key, found)
        shared |= found
    return shared


def looked_up(settings: Settings, targets: Collection[str]) -> dict[str, Rates]:
    """`ensure`, for code that may block; on an event loop's thread, too."""

    async def ask() -> dict[str, Rates]:
        client = open_async_client(server_url(settings))
        try:
            return await ensure(settings, client, targets)
        finally:
            await client.aclose()

    with ThreadPoolExecutor(1) as thread:
        return thread.submit(asyncio.run, ask()).result()


def queries(settings: Settings, targets: Iterable[str]) -> Iterator[Query]:
    """What to ask the table: models without a price of their own, at providers that it can know."""
    for target in targets:
        name, _, model = target.partition("/")
        try:
            base_url = settings.providers[name].base_url
        except SettingsError:
            continue  # it is elsewhere that its absence is told
        if configured(settings.model(name, model)) is None and _is_public(base_url):
            yield Query(name, model, base_url)


def _is_public(base_url: str) -> bool:
    host = urlsplit(base_url).hostname or ""
    try:
        return ipaddress.ip_address(host).is_global
    except ValueError:
        return "." in host and not host.endswith((".localhost", ".local", ".internal"))
