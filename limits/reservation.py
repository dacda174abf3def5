r"""What `limits.admission` takes and returns: asks, reservations, settlements.

Ask --admit--> Admitted | Denied | Impossible
Admitted --sent--> SendPermit --settle--> Settled      (Settlement: how the call ended)
\--release--> Settled      the call was not made
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, Literal, TypeAlias

from limits.bucket import Quota
from limits.budget import BudgetWindow
from limits.circuit import CircuitSettings

Outcome: TypeAlias = Literal["ok", "failure", "neutral"]
"""What a call says about its provider: up, down, or nothing (a 429, a 408, a cancelled call)."""

DEFAULT_CIRCUIT: Final = CircuitSettings()
"""The settings of a circuit that isn't configured."""


@dataclass(frozen=True, slots=True)
class Charge:
    """A bucket that a call draws on, and the units it takes of each dimension, such as {"rpm": 1, "tpm": 1200}."""

    bucket: str
    quota: Quota
    costs: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Candidate:
    """One route that the call may take: a target through one account.

    - `circuit`, `account`: the names of the circuit and of the account.
    - `charges`: the buckets that the call draws on.
    - `amount`: the most that the call can cost, in n$.
    - `row`: the ledger's row, '' for none.
    - `scope`: the account's model, which can be blocked on its own; '' for none.
    - `not_before`: seconds from the ask for which the call must not be sent this way.
    - `fallback`: it counts only if no budget can pay for any other candidate. Such candidates come last.
    """

    circuit: str
    account: str
    charges: tuple[Charge, ...]
    amount: int = 0
    row: str = ""
    scope: str = ""
    not_before: float = 0.0
    fallback: bool = False


@dataclass(frozen=True, slots=True)
class Ask:
    """A request for a reservation. Times are in seconds.

    - `id`: the reservation's name. The same id and `owner` get the same reservation again; another owner is denied
      ("held") while it is open.
    - `candidates`: in order of preference.
    - `budgets`: every budget that has to pay.
    - `max_wait`: how far ahead the call may be booked.
    - `lease`: how long after its time the reservation lives unless it is renewed.
    - `retry`: the call draws on the shared retry budget.
    - `urgent`: the call goes ahead of batch work.
    - `send_at_once`: if the call need not wait, mark it as sent in the same step, which saves calling `sent`.
    - `for_waitlist`: the ask stands for all waiters of a worker's waitlist (tasks/jobs/waitlist.py), so a denial does
      not reserve a turn for coming back.
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
    for_waitlist: bool = False
    circuit: CircuitSettings = DEFAULT_CIRCUIT


@dataclass(frozen=True, slots=True)
class Admitted:
    """The call is reserved, and may be sent in `wait` seconds.

    - `candidate`: an index into `Ask.candidates`.
    - `at`: the same time in µs since the epoch, by the server's clock.
    - `lease_until`: when the reservation ends (µs).
    - `generation`: the circuit's, at this moment.
    - `probe`: the call's outcome decides whether a circuit closes again.
    - `sent`: the call is already marked as sent.
    - `repeated`: the reservation existed before this ask.
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
    """The call may not be sent yet. Ask again in `retry_in` seconds; jitter is already included.

    - `reason`: a dimension ("rpm", ...), or one of
        "pause": a 429 paused the bucket;
        "pace": a request limit that isn't configured, learned from 429s;
        "concurrency": no more calls may be in flight;
        "circuit": it is open;
        "latch": the account is blocked, and is tried again now and then;
        "retry_budget": it is used up;
        "budget": the money is spent; wait for the next window;
        "budget_held": calls in flight hold the money, and may give some of it back;
        "not_before": the candidate's time hasn't come;
        "held": another owner has this reservation.
    - `subject`: the bucket, circuit, account, budget or reservation behind the reason.
    - `retry_in`: None if only a person can help: the budget has no next window.
    - `opens_in`: seconds until the first of all that wait for the same thing could be sent; None as for `retry_in`.
    """

    reason: str
    subject: str
    retry_in: float | None
    opens_in: float | None = None


@dataclass(frozen=True, slots=True)
class Impossible:
    """No candidate can ever take this call: it asks for more than a configured limit. Fail the job.

    `dimension` is one of the quota's, or "usd" if a budget is smaller than the call's upper bound (n$).
    """

    subject: str
    dimension: str
    requested: int
    limit: int


Answer: TypeAlias = Admitted | Denied | Impossible


@dataclass(frozen=True, slots=True)
class SendPermit:
    """Whether a reserved call may be sent now.

    - "sent": yes; it is marked as sent.
    - "wait": not yet, because its bucket was paused or urgent work went first. Ask again in `wait` seconds, or
      release.
    - "revoked": no, because the circuit opened, the account was blocked, or its time is not valid any more (`reason`).
      Release it and ask again.
    - "swept": no, because the lease ended and everything was given back. Ask again.
    - "unknown": this owner has no such reservation.
    """

    verdict: Literal["sent", "wait", "revoked", "swept", "unknown"]
    wait: float = 0.0
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Level:
    """What a provider's headers report about one dimension. None if they don't.

    `reset` is in seconds until all of the limit is available again.
    """

    limit: int | None = None
    remaining: int | None = None
    reset: float | None = None


@dataclass(frozen=True, slots=True)
class Throttle:
    """A 429 of one bucket.

    - `retry_after`: seconds, None if the provider didn't say.
    - `dimension`: the one that the provider named, '' if it named none.
    - `overload`: not a 429 but a 503 or 529: the bucket pauses, and learns nothing about its quota.
    - `limited`: another bucket of the call limits its requests, so no pace is learned in this one.
    - `longest`: the bucket pauses for at most this many seconds, but still learns from `retry_after`.
    """

    bucket: str
    retry_after: float | None = None
    dimension: str = ""
    overload: bool = False
    limited: bool = False
    longest: float | None = None


@dataclass(frozen=True, slots=True)
class Settlement:
    """How a call ended. Everything that follows from it changes in one step.

    - `amount`: what the call cost, in n$.
    - `costs`: the units used of each charge, in the order of the candidate's charges. Unused units are given back, and
      extra ones become debt. None keeps what was reserved.
    - `failed`: the money bought no result.
    - `presumed`: the provider didn't report what it billed; `amount` is the most that it can be.
    - `columns`: added to the reservation's ledger row. The script adds the money itself, as "cost", "failed_cost" or
      "presumed_cost" (and counts the last in "presumed").
    - `levels`: what the headers reported, by bucket and dimension.
    - `throttles`: the buckets that answered 429.
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

    - "settled": done.
    - "corrected": the lease had ended; the real cost replaced the presumed one.
    - "repeated": it was settled before.
    - "unknown": this owner has no such reservation (any more); nothing changed.
    """

    verdict: Literal["settled", "corrected", "repeated", "unknown"]
    circuit_opened: bool = False


@dataclass(frozen=True, slots=True)
class Renewal:
    """`lost`: the ids of reservations that were no longer this owner's."""

    lost: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Swept:
    """How many reservations a sweep ended, and whether more are due."""

    ended: int
    more: bool
