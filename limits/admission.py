r"""Admission: one atomic answer to "may this call go out, when, and to whom?".

    admit -> reservation -> sent -> settle        the call was made; the true cost replaces the reserved one
                        \-> release               it was not

`admit` looks at circuit, latch, retry budget, budgets, every dimension and concurrency of each candidate in
one step, and takes all of what the call needs or nothing. A reservation holds its quota, money and slot
under a lease; `renew` prolongs it. Each operation may be repeated: the reservation's id makes it
idempotent.
"""

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal, TypeAlias, cast

from limits.bucket import Quota
from limits.budget import BudgetWindow
from limits.circuit import CircuitSettings
from limits.client.compact_json import dumps
from limits.client.scripts import Call, load
from limits.encoding import budgets_json, circuit_json, quota_json
from limits.keys import Keys

SECOND: Final = 1_000_000
"""Scripts count time in µs."""

Outcome: TypeAlias = Literal["ok", "failure", "neutral"]
"""What a call says of its provider: up, down, or nothing (a 429, a 408, a cancelled call)."""

DEFAULT_CIRCUIT: Final = CircuitSettings()


@dataclass(frozen=True, slots=True)
class Charge:
    """One bucket that a call draws on, and what it takes there in each dimension ({"rpm": 1, "tpm":
    1200}).
    """

    bucket: str
    quota: Quota
    costs: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Candidate:
    """One way to make the call: a target with one API key.

    `circuit` and `account` name the circuit and the account that may be blocked, `scope` the account's model, which may
    be blocked alone ('': never); `amount` is the most it can cost, in n$; `row` names the ledger's row, '' for none.
    """

    circuit: str
    account: str
    charges: tuple[Charge, ...]
    amount: int = 0
    row: str = ""
    scope: str = ""


@dataclass(frozen=True, slots=True)
class Ask:
    """What `admit` is asked.

    `id` names the reservation: the same id of the same `owner` gets the same reservation again; of another
    owner, while it is open, a denial `held`. `candidates` are in order of preference. Times in seconds:
    `max_wait` is how far ahead an admission may lie, `lease` how long after it the reservation lives unless
    renewed. `retry` draws on the shared retry budget. `urgent` work goes
    before batch work. `send_at_once`: an admission without a wait is marked as sent in the same step, which
    saves calling `sent`. `in_line`: who asks stands in a line of its worker's (jobs/waitlist.py), and asks for all who
    stand behind it; a denial then takes no turn among those who come back.
    """

    id: str
    owner: str
    candidates: tuple[Candidate, ...]
    budgets: tuple[BudgetWindow, ...] = ()
    max_wait: float = 5.0
    lease: float = 180.0
    retry: bool = False
    urgent: bool = False
    send_at_once: bool = False
    in_line: bool = False
    circuit: CircuitSettings = DEFAULT_CIRCUIT


@dataclass(frozen=True, slots=True)
class Admitted:
    """The call may go out at `at` (µs since the epoch, the server's clock), `wait` seconds from now.

    `candidate` is an index into `Ask.candidates`. `probe`: its outcome decides whether a circuit closes
    again. `sent`: already marked as sent. `lease_until` in µs. `repeated`: the reservation was there before
    this call.
    """

    candidate: int
    at: int
    wait: float
    lease_until: int
    generation: int
    probe: bool
    sent: bool
    repeated: bool


@dataclass(frozen=True, slots=True)
class Denied:
    """The call may not go out yet; come back in `retry_in` seconds (already spread, add no jitter).

    `reason` is a dimension ("rpm", ...), or "pause" (a 429), "pace" (a limit of requests that nobody has configured,
    learned from 429s), "concurrency", "circuit", "latch",
    "retry_budget", "budget" (spent: wait for the window), "budget_held" (money held by calls in flight may
    come back), or "held" (another owner has this reservation). `subject` names the bucket, circuit, account
    or budget. `retry_in` is None where only a person can help: a budget that never turns. A blocked account is asked
    about again. `opens_in` is when the first of all who wait for the same could go, in seconds; None as `retry_in`.
    """

    reason: str
    subject: str
    retry_in: float | None
    opens_in: float | None = None


@dataclass(frozen=True, slots=True)
class Impossible:
    """No candidate can ever take this call: it asks for more than a configured limit. Fail the job.

    `dimension` is one of the quota's, or "usd" for a budget smaller than the call's upper bound in n$.
    """

    subject: str
    dimension: str
    requested: int
    limit: int


Answer: TypeAlias = Admitted | Denied | Impossible


@dataclass(frozen=True, slots=True)
class Departure:
    """Whether a reserved call may leave now.

    "go": it is marked as sent. "wait": its bucket was paused or urgent work went before; ask again in `wait`
    seconds, or release. "revoked": the circuit opened or the account was latched since; release and ask anew.
    "swept": the lease ended and everything was given back; ask anew. "unknown": no such reservation of this
    owner.
    """

    verdict: Literal["go", "wait", "revoked", "swept", "unknown"]
    wait: float = 0.0
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Level:
    """What a provider's headers told of one dimension: `reset` in seconds until everything is there. None: not told."""

    limit: int | None = None
    remaining: int | None = None
    reset: float | None = None


@dataclass(frozen=True, slots=True)
class Throttle:
    """A 429: `retry_after` seconds as the provider told, None if it did not; `dimension` if it named one.

    `overload`: no 429, but a 503 or 529, which pauses the bucket and says nothing of its quota. `limited`: another
    bucket of the call limits its requests, so that no pace is learned in this one. `longest`: it pauses for no more
    seconds than that, and teaches what it told.
    """

    bucket: str
    retry_after: float | None = None
    dimension: str = ""
    overload: bool = False
    limited: bool = False
    longest: float | None = None


@dataclass(frozen=True, slots=True)
class Settlement:
    """How a call ended; everything that its end changes, in one step.

    `costs`: what was used of each charge of the admitted candidate, in its order; less than reserved is given
    back, more becomes debt. None keeps what was reserved. `amount` in n$. `failed`: the money bought no
    result. `presumed`: the provider did not tell what it billed; the amount is the most it can be. `columns`
    are added to the reservation's ledger row; the script adds the money itself ("cost", "failed_cost", or
    "presumed_cost" with the count "presumed"). `levels`: headers, by bucket and dimension. `throttles`: the
    buckets that answered 429.
    """

    amount: int = 0
    costs: tuple[Mapping[str, int], ...] | None = None
    outcome: Outcome = "ok"
    failed: bool = False
    presumed: bool = False
    columns: Mapping[str, int] = field(default_factory=dict)
    levels: Mapping[str, Mapping[str, Level]] = field(default_factory=dict)
    throttles: tuple[Throttle, ...] = ()
    circuit: CircuitSettings = DEFAULT_CIRCUIT


@dataclass(frozen=True, slots=True)
class Settled:
    """What settling or releasing did.

    "settled": done. "corrected": the lease had ended; what was presumed has been replaced by the truth.
    "repeated": it was done before. "unknown": no such reservation of this owner (any more): nothing was
    changed.
    """

    verdict: Literal["settled", "corrected", "repeated", "unknown"]
    circuit_opened: bool = False


@dataclass(frozen=True, slots=True)
class Renewal:
    """The ids whose reservations were no longer this owner's to renew."""

    lost: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Swept:
    """How many reservations one sweep ended, and whether more are due."""

    ended: int
    more: bool


def micros(seconds: float) -> int:
    """Seconds as whole µs."""
    return round(seconds * SECOND)


def call(keys: Keys, name: str, body: object, parse: Any, now: int | None = None, *, joins: bool = False) -> Call[Any]:
    """A call of `limits/lua/<name>.lua`, with its one JSON argument and the clock (0: the server's)."""
    return Call(load(f"limits/lua/{name}.lua"), (keys.clock,), (now or 0, dumps(body)), parse, joins)


def admit(keys: Keys, ask: Ask, now: int | None = None) -> Call[Answer]:
    """Ask for a reservation. `now` in µs replaces the server's clock in tests."""
    body = {
        "id": ask.id,
        "owner": ask.owner,
        "candidates": [
            {
                "circuit": candidate.circuit,
                "account": candidate.account,
                "scope": candidate.scope,
                "amount": candidate.amount,
                "row": candidate.row,
                "charges": [
                    {"bucket": charge.bucket, "quota": quota_json(charge.quota), "costs": charge.costs}
                    for charge in candidate.charges
                ],
            }
            for candidate in ask.candidates
        ],
        "budgets": budgets_json(ask.budgets),
        "max_wait": micros(ask.max_wait),
        "lease": micros(ask.lease),
        "retry": ask.retry,
        "urgent": ask.urgent,
        "send_at_once": ask.send_at_once,
        "in_line": ask.in_line,
        "circuit": circuit_json(ask.circuit),
        "jitter": random.random(),
    }
    return cast("Call[Answer]", call(keys, "admit", body, _answer, now, joins=True))


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


def sent(keys: Keys, reservation_id: str, owner: str, now: int | None = None) -> Call[Departure]:
    """Mark a reservation as sent, right before the request leaves; only "go" lets it leave.

    Whoever was held up since may ask once more: nothing leaves during a pause, whenever it began.
    """
    body = {"id": reservation_id, "owner": owner}
    return cast("Call[Departure]", call(keys, "sent", body, _departure, now))


def _departure(reply: Sequence[Any]) -> Departure:
    verdict, wait, reason = reply
    return Departure(verdict.decode(), wait / SECOND, reason.decode())


def settlement_json(reservation_id: str, owner: str, settlement: Settlement) -> bytes:
    """The settlement as the Lua fragment `lib/settle.lua` takes it; other packages' scripts pass it on."""
    return dumps(
        {
            "id": reservation_id,
            "owner": owner,
            "amount": settlement.amount,
            "costs": settlement.costs if settlement.costs is not None else False,
            "outcome": settlement.outcome,
            "failed": settlement.failed,
            "presumed": settlement.presumed,
            "columns": settlement.columns,
            "levels": {
                bucket: {name: level_json(level) for name, level in levels.items()}
                for bucket, levels in settlement.levels.items()
            },
            "throttles": [throttle_json(throttle) for throttle in settlement.throttles],
            "circuit": circuit_json(settlement.circuit),
            "jitter": random.random(),
        }
    )


def told(value: int | None) -> int:
    """-1 for what was not told, as Lua's JSON has no null that reads like one."""
    return -1 if value is None else value


def level_json(level: Level) -> list[int]:
    """A level as the Lua fragments take it; the time in µs."""
    return [told(level.limit), told(level.remaining), -1 if level.reset is None else micros(level.reset)]


def throttle_json(throttle: Throttle) -> dict[str, object]:
    """A 429 as the Lua fragments take it; the wait in µs."""
    wait = -1 if throttle.retry_after is None else micros(throttle.retry_after)
    return {
        "bucket": throttle.bucket,
        "retry_after": wait,
        "dimension": throttle.dimension,
        "overload": throttle.overload,
        "limited": throttle.limited,
        "longest": micros(throttle.longest or 0.0),
    }


def settle(
    keys: Keys, reservation_id: str, owner: str, settlement: Settlement, now: int | None = None
) -> Call[Settled]:
    """End a reservation with the truth: quota, money, ledger, circuit, headers and 429s in one step."""
    script = load("limits/lua/settle.lua")
    args = (now or 0, settlement_json(reservation_id, owner, settlement))
    return Call(script, (keys.clock,), args, _settled, joins=True)


def _settled(reply: Sequence[Any]) -> Settled:
    verdict, opened = reply
    return Settled(verdict.decode(), bool(opened))


def release(keys: Keys, reservation_id: str, owner: str, now: int | None = None) -> Call[Settled]:
    """Give a reservation back whole: the request never left, or provably never reached the provider."""
    body = {"id": reservation_id, "owner": owner}
    return cast("Call[Settled]", call(keys, "release", body, _settled, now))


def renew(
    keys: Keys, reservation_ids: Sequence[str], owner: str, lease: float, now: int | None = None
) -> Call[Renewal]:
    """Prolong reservations to `lease` seconds from now. Those that were lost are told."""
    body = {"ids": list(reservation_ids), "owner": owner, "lease": micros(lease)}
    return cast("Call[Renewal]", call(keys, "renew", body, _renewal, now))


def _renewal(reply: Sequence[bytes]) -> Renewal:
    return Renewal(tuple(lost.decode() for lost in reply))


def sweep(keys: Keys, most: int = 200, now: int | None = None) -> Call[Swept]:
    """End up to `most` reservations whose lease is over. Admissions do a few each; this is for idle times."""
    return cast("Call[Swept]", call(keys, "sweep", {"most": most}, _swept, now))


def _swept(reply: Sequence[int]) -> Swept:
    ended, more = reply
    return Swept(ended, bool(more))
