"""Prices of the models that jobs may use: looked up once, and shared with all workers through Redis.

`overnight submit` asks the price table, a separate process (models/price_lookup.py). A worker asks only about
a model without a shared price, such as one in a job from another Celery producer. Providers on this machine or in a
private network are in no table, and are not looked up.
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
from workers.models.tiers import ASKED
from workers.pool.threads import to_thread

if TYPE_CHECKING:
    import redis.asyncio

log = logging.getLogger(__name__)

#: Seconds after which a shared price is looked up again: the table is part of a package that gets upgrades.
FRESH: Final = 86_400.0


class LookUpFailed(Exception):  # noqa: N818 - names what happened
    """The price table did not answer. Ask again later."""


async def ensure(
    settings: Settings, client: "redis.asyncio.Redis", targets: Collection[str], *, strict: bool = False
) -> dict[str, Rates]:
    """Look up the missing and old prices of `targets` (`provider/model`), and return all shared prices.

    If the look-up fails, return those shared already. With `strict`, raise LookUpFailed if a target has none.
    """
    key = Keys(settings.namespace).prices
    shared = await shared_prices.fetch(client, key)
    old = time.time() - FRESH
    missing = {each for each in targets if each not in shared or shared[each].at < old}
    asked = list(queries(settings, missing))
    if asked:
        try:
            found = await to_thread("lookups", price_lookup.lookup, asked)
        except (OSError, ValueError, subprocess.SubprocessError) as exc:
            log.warning("prices could not be looked up: %s", exc)
            if strict and (names := [each.name for each in asked if not each.tier and each.name not in shared]):
                raise LookUpFailed(f"the price of {', '.join(names)} could not be looked up: {exc}") from exc
            return shared
        await shared_prices.publish(client, key, found)
        shared |= found
    return shared


def looked_up(settings: Settings, targets: Collection[str]) -> dict[str, Rates]:
    """`ensure` for code that may block. Works on the thread of a running event loop, too."""

    async def ask() -> dict[str, Rates]:
        client = open_async_client(server_url(settings))
        try:
            return await ensure(settings, client, targets)
        finally:
            await client.aclose()

    with ThreadPoolExecutor(1) as thread:
        return thread.submit(asyncio.run, ask()).result()


def queries(settings: Settings, targets: Iterable[str]) -> Iterator[Query]:
    """What to ask the table: models without a configured price, at public providers, in every tier."""
    for target in targets:
        name, _, model = target.partition("/")
        try:
            base_url = settings.providers[name].base_url
        except SettingsError:
            continue  # the check of the configuration reports it
        if configured(settings.model(name, model)) is None and _is_public(base_url):
            yield Query(name, model, base_url)
            yield from (Query(name, model, base_url, tier) for tier in ASKED)


def _is_public(base_url: str) -> bool:
    host = urlsplit(base_url).hostname or ""
    try:
        return ipaddress.ip_address(host).is_global
    except ValueError:
        return "." in host and not host.endswith((".localhost", ".local", ".internal"))
