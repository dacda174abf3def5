r"""Admission: one atomic answer to "may this call be sent, when, and by which route?".

    admit -> reservation -> sent -> settle        the call was made; its real cost replaces the reserved one
                        \-> release               the call was not made

`admit` checks circuit, blocked account, retry budget, budgets, every dimension and concurrency of each candidate in one
step. It reserves everything that the call needs, or nothing. A reservation holds its quota, money and concurrency under
a lease, and `renew` extends the lease. Each operation is idempotent by the reservation's id, so it may be repeated.

Every function takes `now` in µs, which replaces the server's clock in tests.
"""

from collections.abc import Sequence
from typing import Any, cast

from limits.client.scripts import Call, load
from limits.encoding import SECOND, ask_json, call, micros, settlement_json
from limits.keys import Keys
from limits.reservation import (
    Admitted,
    Answer,
    Ask,
    Denied,
    Impossible,
    Renewal,
    SendPermit,
    Settled,
    Settlement,
    Swept,
)


def admit(keys: Keys, ask: Ask, now: int | None = None) -> Call[Answer]:
    """Ask for a reservation."""
    return cast("Call[Answer]", call(keys, "admit", ask_json(ask), _answer, now, joins=True))


def _answer(reply: Sequence[Any]) -> Answer:
    match reply[0]:
        case b"admitted":
            _, candidate, at, wait, until, generation, probe, sent, repeated = reply
            return Admitted(
                candidate=candidate,
                at=at,
                wait=wait / SECOND,
                lease_until=until,
                generation=generation,
                probe=bool(probe),
                sent=bool(sent),
                repeated=bool(repeated),
            )
        case b"denied":
            _, reason, subject, *times = reply
            retry_in, opens_in = (None if each < 0 else each / SECOND for each in times)
            return Denied(reason.decode(), subject.decode(), retry_in, opens_in)
        case _:
            _, subject, dimension, requested, limit = reply
            return Impossible(subject.decode(), dimension.decode(), requested, limit)


def sent(keys: Keys, reservation_id: str, owner: str, now: int | None = None) -> Call[SendPermit]:
    """Mark a reservation as sent, right before the request. Send it only if the verdict is "sent".

    A caller that was held up after that may ask again: during a pause the verdict is then "wait".
    """
    body = {"id": reservation_id, "owner": owner}
    return cast("Call[SendPermit]", call(keys, "sent", body, _permit, now))


def _permit(reply: Sequence[Any]) -> SendPermit:
    verdict, wait, reason = reply
    return SendPermit(verdict.decode(), wait / SECOND, reason.decode())


def settle(
    keys: Keys, reservation_id: str, owner: str, settlement: Settlement, now: int | None = None
) -> Call[Settled]:
    """End a reservation with what really happened: quota, money, ledger, circuit, headers and 429s in one step."""
    script = load("limits/lua/settle.lua")
    args = (now or 0, settlement_json(reservation_id, owner, settlement))
    return Call(script, (keys.clock,), args, _settled, joins=True)


def _settled(reply: Sequence[Any]) -> Settled:
    verdict, opened = reply
    return Settled(verdict.decode(), bool(opened))


def release(keys: Keys, reservation_id: str, owner: str, now: int | None = None) -> Call[Settled]:
    """Give a whole reservation back: the request was not sent, or provably never reached the provider."""
    body = {"id": reservation_id, "owner": owner}
    return cast("Call[Settled]", call(keys, "release", body, _settled, now))


def renew(
    keys: Keys, reservation_ids: Sequence[str], owner: str, lease: float, now: int | None = None
) -> Call[Renewal]:
    """Extend leases to `lease` seconds from now. Returns the reservations that were lost."""
    body = {"ids": list(reservation_ids), "owner": owner, "lease": micros(lease)}
    return cast("Call[Renewal]", call(keys, "renew", body, _renewal, now))


def _renewal(reply: Sequence[bytes]) -> Renewal:
    return Renewal(tuple(lost.decode() for lost in reply))


def sweep(keys: Keys, most: int = 200, now: int | None = None) -> Call[Swept]:
    """End up to `most` reservations whose lease is over. Admissions end a few each; this is for idle times."""
    return cast("Call[Swept]", call(keys, "sweep", {"most": most}, _swept, now))


def _swept(reply: Sequence[int]) -> Swept:
    ended, more = reply
    return Swept(ended, bool(more))
