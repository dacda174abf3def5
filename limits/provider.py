"""What providers tell, apart from a call's end: levels, 429s, and accounts that must be left alone.

A worker that settles a call passes levels and 429s with the settlement; these are for what is learnt
without a reservation, and for the command line.
"""

from collections.abc import Mapping
from typing import Any, Literal, cast

from limits.admission import Level, Throttle, call, level_json, micros, throttle_json
from limits.keys import Keys
from limits.scripts import Call


def observe(keys: Keys, bucket: str, levels: Mapping[str, Level], sent_at: int, now: int | None = None) -> Call[None]:
    """Take over levels that headers told. `sent_at`: when that request left, µs of the server's clock.

    Without a reservation it is not known what was admitted since, so such levels can lower ours, never
    raise it.
    """
    told_levels = {name: level_json(level) for name, level in levels.items()}
    body = {"bucket": bucket, "levels": told_levels, "sent_at": sent_at}
    return cast("Call[None]", call(keys, "observe", body, _nothing, now))


def throttled(keys: Keys, throttle: Throttle, sent_at: int = 0, now: int | None = None) -> Call[float]:
    """Pause a bucket for everyone after a 429; returns for how many seconds it is paused.

    `sent_at` (µs) is when the refused request left: several refusals of one burst are one event. 0: just now.
    """
    body = throttle_json(throttle) | {"sent_at": sent_at}
    return cast("Call[float]", call(keys, "throttled", body, _seconds, now))


def latch(keys: Keys, account: str, reason: str, now: int | None = None) -> Call[bool]:
    """Send nothing to an account until someone clears it. `reason` tells what to do. True if it is new."""
    return cast("Call[bool]", call(keys, "latch", {"account": account, "reason": reason}, bool, now))


def clear_latch(keys: Keys, account: str, now: int | None = None) -> Call[bool]:
    """Send to an account again. True if it was latched."""
    return cast("Call[bool]", call(keys, "latch", {"account": account, "reason": ""}, bool, now))


def set_circuit(
    keys: Keys, circuit: str, state: Literal["open", "closed", "auto"], now: int | None = None
) -> Call[None]:
    """Hold a circuit open (nothing goes out) or closed (failures are ignored) until set to "auto" again."""
    return cast("Call[None]", call(keys, "set_circuit", {"circuit": circuit, "state": state}, _nothing, now))


def _nothing(_reply: Any) -> None:
    return None


def _seconds(reply: int) -> float:
    return reply / micros(1)
