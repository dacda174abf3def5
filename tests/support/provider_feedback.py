"""What a provider reports, without the call that it belongs to: headers, 429s and blocked accounts."""

from collections.abc import Mapping, Sequence
from typing import Any, cast

from limits.client.compact_json import dumps
from limits.client.scripts import Call, load
from limits.encoding import SECOND, level_json, throttle_json
from limits.feedback import AccountRefusal, refused
from limits.keys import Keys
from limits.reservation import Level, Throttle

OBSERVE = "tests/support/lua/observe.lua"
THROTTLED = "tests/support/lua/throttled.lua"


def observe(keys: Keys, bucket: str, levels: Mapping[str, Level], sent_at: int, now: int | None = None) -> Call[None]:
    """Take over what an answer's headers reported. `sent_at`: when its request was sent (µs)."""
    reported = {name: level_json(level) for name, level in levels.items()}
    body = {"bucket": bucket, "levels": reported, "sent_at": sent_at}
    return Call(load(OBSERVE), (keys.clock,), (now or 0, dumps(body)), _nothing)


def throttled(keys: Keys, throttle: Throttle, sent_at: int = 0, now: int | None = None) -> Call[float]:
    """Pause a bucket after a 429. Returns the seconds of the pause.

    `sent_at` (µs, 0 for now) is when the refused request was sent: several refusals of one burst are one event.
    """
    body = throttle_json(throttle) | {"sent_at": sent_at}
    return Call(load(THROTTLED), (keys.clock,), (now or 0, dumps(body)), _seconds)


def block_account(keys: Keys, account: str, reason: str, now: int | None = None) -> Call[bool]:
    """Block an account, or an account's model, at once. Returns whether that is new."""
    blocking = refused(keys, AccountRefusal(account, reason), now)
    return cast("Call[bool]", Call(blocking.script, blocking.keys, blocking.args, _is_new))


def _is_new(reply: Sequence[int]) -> bool:
    return bool(reply[0])


def _nothing(_reply: Any) -> None:
    return None


def _seconds(reply: int) -> float:
    return reply / SECOND
