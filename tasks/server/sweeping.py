"""Removes expired files, and what broken uploads have left. Every server does it; doing it twice is harmless."""

import asyncio
import logging
from functools import partial
from typing import Final

import redis

from limits.errors import LimitsError
from tasks.batches.uploads import SWEEP
from tasks.jobs.storage import StorageError
from tasks.server import result_files
from tasks.server.resources import Resources, blocking

log = logging.getLogger(__name__)

#: Seconds between two looks.
EVERY: Final = 30.0


async def sweep(resources: Resources) -> None:
    """Remove what is due every `EVERY` seconds, until cancelled."""
    while True:
        found = 0
        try:
            found = await blocking(resources.uploads.sweep, partial(result_files.expire, resources.store))
        except (redis.RedisError, LimitsError, StorageError) as exc:
            log.warning("expired files are removed later: %s", exc)
        except Exception:
            log.exception("expired files are removed later")
        if found < SWEEP:
            await asyncio.sleep(EVERY)
