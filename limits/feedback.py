"""What providers tell, apart from a call's end: levels, 429s, and accounts that must be left alone.

A worker that settles a call passes levels and 429s with the settlement; these are for what is learnt
without a reservation, and for the command line.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, cast

from limits.admission import Level, Throttle, call, level_json, micros, throttle_json
from limits.client.scripts import Call
from limits.keys import Keys


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


@dataclass(frozen=True, slots=True)
class Word:
    """That an account refused a call: `reason` says why, and what a person can do.

    `certain`: it can mean nothing but the account. Otherwise it is about `scope`, the account's model, and blocks that
    once a second `job` is refused. `reservation` is the call's, '' if it was given back. `key` tells this key of the
    account from a later one; '*' stands for any.
    """

    account: str
    reason: str
    scope: str = ""
    certain: bool = True
    job: str = ""
    reservation: str = ""
    key: str = "*"


@dataclass(frozen=True, slots=True)
class Heard:
    """What a word did: `new` if it has blocked something, `blocked` if calls like the refused one are blocked now."""

    new: bool
    blocked: bool


def refused(keys: Keys, word: Word, now: int | None = None) -> Call[Heard]:
    """Tell that an account refused a call. A blocked one is tried now and then, until a call is answered."""
    body = {
        "account": word.account,
        "scope": word.scope,
        "reason": word.reason,
        "certain": word.certain,
        "job": word.job,
        "id": word.reservation,
        "key": word.key,
    }
    return cast("Call[Heard]", call(keys, "latch", body, _heard, now))


def _heard(reply: Sequence[int]) -> Heard:
    new, blocked = reply
    return Heard(bool(new), bool(blocked))


def latch(keys: Keys, account: str, reason: str, now: int | None = None) -> Call[bool]:
    """Block an account, or an account's model, at once. True if it was not blocked."""
    body = {"account": account, "scope": "", "reason": reason, "certain": True, "job": "", "id": "", "key": "*"}
    return cast("Call[bool]", call(keys, "latch", body, _changed, now))


def clear_latch(keys: Keys, account: str, *, key: str = "*", now: int | None = None) -> Call[bool]:
    """Send to an account, or an account's model, again. True if it was blocked.

    With a `key`, only if it was blocked with another one.
    """
    return cast("Call[bool]", call(keys, "latch", {"account": account, "reason": "", "key": key}, _changed, now))


def _changed(reply: Sequence[int]) -> bool:
    return bool(reply[0])


def resume(keys: Keys, bucket: str, now: int | None = None) -> Call[float]:
    """End the pause of a bucket; returns for how many more seconds it would have lasted, 0.0 if it was not paused."""
    return cast("Call[float]", call(keys, "resume", {"bucket": bucket}, _seconds, now))


def set_circuit(
    keys: Keys, circuit: str, state: Literal["open", "closed", "auto"], now: int | None = None
) -> Call[None]:
    """Hold a circuit open (nothing goes out) or closed (failures are ignored) until set to "auto" again."""
    return cast("Call[None]", call(keys, "set_circuit", {"circuit": circuit, "state": state}, _nothing, now))


def _nothing(_reply: Any) -> None:
    return None


def _seconds(reply: int) -> float:
    return reply / micros(1)
