"""What is learned or decided apart from a call's end: refused accounts, and limits that are set by hand."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, cast

from limits.client.scripts import Call
from limits.encoding import SECOND, call
from limits.keys import Keys


@dataclass(frozen=True, slots=True)
class AccountRefusal:
    """A provider refused a call because of its account.

    - `reason`: why, and what a person can do about it.
    - `scope`: the account's model, '' for none.
    - `certain`: the refusal can only be about the account, which is blocked at once. Otherwise `scope` is blocked once
      a second job is refused too.
    - `job`: the one that was refused.
    - `reservation`: the call's, '' if it was given back.
    - `key`: a fingerprint of the account's key, so that a later key is not blocked; '*' for any.
    """

    account: str
    reason: str
    scope: str = ""
    certain: bool = True
    job: str = ""
    reservation: str = ""
    key: str = "*"


@dataclass(frozen=True, slots=True)
class RefusalEffect:
    """`new`: the refusal blocked something. `blocked`: calls like the refused one are blocked now."""

    new: bool
    blocked: bool


def refused(keys: Keys, refusal: AccountRefusal, now: int | None = None) -> Call[RefusalEffect]:
    """Record that an account refused a call. A blocked account is tried now and then until a call succeeds."""
    body = {
        "account": refusal.account,
        "scope": refusal.scope,
        "reason": refusal.reason,
        "certain": refusal.certain,
        "job": refusal.job,
        "id": refusal.reservation,
        "key": refusal.key,
    }
    return cast("Call[RefusalEffect]", call(keys, "block", body, _effect, now))


def _effect(reply: Sequence[int]) -> RefusalEffect:
    new, blocked = reply
    return RefusalEffect(bool(new), bool(blocked))


def unblock_account(keys: Keys, account: str, *, key: str = "*", now: int | None = None) -> Call[bool]:
    """Use an account, or one of its models, again. Returns whether it was blocked.

    With a `key`, only if it was blocked under another key.
    """
    return cast("Call[bool]", call(keys, "block", {"account": account, "reason": "", "key": key}, _changed, now))


def _changed(reply: Sequence[int]) -> bool:
    return bool(reply[0])


def resume(keys: Keys, bucket: str, now: int | None = None) -> Call[float]:
    """End the pause of a bucket. Returns the seconds that were left of it, 0.0 if it was not paused."""
    return cast("Call[float]", call(keys, "resume", {"bucket": bucket}, _seconds, now))


def _seconds(reply: int) -> float:
    return reply / SECOND


def set_circuit(
    keys: Keys, circuit: str, state: Literal["open", "closed", "auto"], now: int | None = None
) -> Call[None]:
    """Hold a circuit open (nothing is sent) or closed (failures are ignored) until it is set to "auto" again."""
    return cast("Call[None]", call(keys, "set_circuit", {"circuit": circuit, "state": state}, _nothing, now))


def _nothing(_reply: Any) -> None:
    return None
