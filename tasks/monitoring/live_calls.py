"""The live calls that HTTP servers have in flight: each server reports its own every few seconds."""

import time
from collections import Counter
from collections.abc import Mapping
from typing import Any, Final

import orjson

from limits.keys import Keys

#: Seconds between two reports of a server.
EVERY: Final = 2.0

#: Seconds after which a report counts no more: its server has died, or cannot reach Redis.
FRESH: Final = 15.0

#: Seconds after which the reports are gone if no server reports.
KEPT: Final = 60


def report(pipeline: Any, keys: Keys, server: str, calls: Mapping[str, int]) -> None:
    """Add the commands that report a server's calls in flight, by workflow, to a pipeline."""
    found = {"at": time.time(), "calls": {name: count for name, count in calls.items() if count}}
    pipeline.hset(keys.live_calls, server, orjson.dumps(found))
    pipeline.expire(keys.live_calls, KEPT)


def in_flight(reports: Mapping[bytes, bytes], now: float) -> Counter[str]:
    """The calls in flight, by workflow. `now`: seconds since the epoch."""
    sums: Counter[str] = Counter()
    for raw in reports.values():
        found = orjson.loads(raw)
        if now - found["at"] < FRESH:
            sums.update(found["calls"])
    return sums


def stale(reports: Mapping[bytes, bytes]) -> list[bytes]:
    """The servers whose reports can be removed."""
    return [server for server, raw in reports.items() if time.time() - orjson.loads(raw)["at"] > KEPT]
