"""Prices that all workers share, in a hash in Redis."""

import json
import logging
from collections.abc import Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Final

from workers.models.prices import Band, Rates

if TYPE_CHECKING:
    from redis.asyncio import Redis

log = logging.getLogger(__name__)

#: Seconds that shared prices are kept. Each submit looks them up again.
LIFETIME: Final = 30 * 86_400


def encode(rates: Mapping[str, Rates]) -> dict[str, str]:
    """Rates as the fields of a hash: the model's name -> compact JSON."""
    return {name: json.dumps(_plain(each), separators=(",", ":")) for name, each in rates.items()}


def decode(fields: Mapping[Any, Any]) -> dict[str, Rates]:
    """The rates in a hash's fields. An unreadable field is logged and left out, so its model has no price."""
    found: dict[str, Rates] = {}
    for raw, value in fields.items():
        name = raw.decode(errors="replace") if isinstance(raw, bytes) else str(raw)
        try:
            fields_of_rates = json.loads(value)
            bands = tuple(Band(**band) for band in fields_of_rates.pop("bands"))
            found[name] = Rates(bands, **fields_of_rates)
        except (ValueError, TypeError, KeyError, AttributeError) as exc:
            log.warning("the shared price of %s is unreadable and ignored: %s", name, exc)
    return found


async def publish(client: "Redis", key: str, rates: Mapping[str, Rates]) -> None:
    """Share rates with all workers in the hash `key`, replacing the models' previous ones."""
    if rates:
        async with client.pipeline(transaction=True) as pipeline:
            for name, encoded in encode(rates).items():
                pipeline.hset(key, name, encoded)
            pipeline.expire(key, LIFETIME)
            await pipeline.execute()


async def fetch(client: "Redis", key: str) -> dict[str, Rates]:
    """All rates shared under `key`, for `resolve`."""
    return decode(await client.hgetall(key))


def _plain(rates: Rates) -> dict[str, Any]:
    return {
        "bands": [asdict(band) for band in rates.bands],
        "request": rates.request,
        "source": rates.source,
        "at": rates.at,
        "window": rates.window,
    }
