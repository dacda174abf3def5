"""One job in Redis: whether a delivery may run it (`begin`), its lease, and how it ends (`finish`).

Each function describes one script. The runtime of a worker runs it on its event loop, `tasks.batches.store.Store` for
code that may block.
"""

from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal, cast

import orjson

from limits.budget import NANO
from limits.client.compact_json import dumps, loads
from limits.client.scripts import Call, load
from limits.encoding import SECOND
from limits.keys import Keys
from limits.reservation import Settlement
from tasks.answers.checks import Result
from tasks.jobs import job as jobs
from tasks.jobs.job import Job

#: Seconds that the record of a batch is kept after its end. Longer than `overnight clean` waits by default: without
#: the record it could not know when the batch ended.
KEEP_BATCH = 90 * 86_400

#: Seconds that the record of a job without a batch is kept.
KEEP_JOB = 86_400

#: Seconds that a job is leased, unless the configuration sets `visibility_timeout`.
LEASE = 60.0


Ceiling = Literal["none", "own", "default"]
Verdict = Literal["run", "done", "held", "stopped", "stale", "gone", "refused"]


@dataclass(frozen=True, slots=True)
class Begun:
    """Whether a delivery may run its job. `wait`: if it is held, seconds until the other delivery's lease ends.

    `answer`: if it is done, the result line of a job without a batch. `kept`: if it may run, the answer that an earlier
    delivery has kept (kept.py), b"" if there is none.
    """

    verdict: Verdict
    wait: float
    answer: dict[str, Any] | None
    kept: bytes = b""


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a job ended, and what it has cost.

    cost         in n$
    cached_tokens, reasoning_tokens   parts of the input and output tokens
    settlement   closes `reservation`, that of its last call (`limits.encoding.settlement_json`); both may be empty
    counted      the part of the cost that its batch has counted already: an agent's finished calls
    ceiling      whose ceiling cut the answer off: the line's own, or the default that Overnight has set
    check        the result of its answer's check (tasks/answers/checks.py); '' if nothing was checked
    again_cost   n$ of further answers (further.py); None if the job asked for none
    """

    ok: bool
    line: bytes
    cost: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    cached_tokens: int = 0
    reasoning_tokens: int = 0
    settlement: bytes = b""
    reservation: str = ""
    counted: int = 0
    ceiling: Ceiling = "none"
    check: Result | Literal[""] = ""
    again_cost: int | None = None

    @classmethod
    def error(
        cls, job: Job, code: str, message: str, *, cost: int = 0, attempts: int = 0, counted: int = 0
    ) -> "Outcome":
        """An outcome without an answer. `cost`: what its attempts may have cost, in n$."""
        line = jobs.result_line(
            job.result_id,
            job.line.custom_id,
            response=None,
            error=jobs.error_object(code, message),
            report={
                "provider": None,
                "model": None,
                "attempts": attempts,
                "cost_usd": cost / NANO,
                "seconds": 0.0,
            },
        )
        return cls(ok=False, line=jobs.encode(line), cost=cost, counted=counted)


@dataclass(frozen=True, slots=True)
class Finished:
    """Whether this result counts: it doesn't if the job had ended before."""

    counts: bool


def begin(keys: Keys, job: Job, owner: str, lease: float = LEASE) -> Call[Begun]:
    """Ask whether this delivery may run the job, and if so lease it for `lease` seconds."""
    args: tuple[str | int, ...] = (owner, int(lease * SECOND), "", KEEP_JOB)
    if job.batch is None:
        return Call(load("tasks/jobs/lua/begin.lua"), (keys.job(job.id),), args, _begun)
    names = (*batch_keys(keys, job.batch)[:5], keys.kept(job.batch))
    return Call(load("tasks/jobs/lua/begin.lua"), names, (*args, *_line(job)), _begun)


def _line(job: Job) -> tuple[str | int, ...]:
    """The script's arguments that name a line of a batch, with its proof."""
    return job.number, job.round, job.workflow, job.proof


def _begun(reply: Any) -> Begun:
    verdict, wait, answer = reply
    if verdict == b"run":
        return Begun("run", 0.0, None, answer)
    found = loads(answer) if answer else None
    return Begun(cast("Verdict", verdict.decode()), wait / SECOND, found)


def finish(keys: Keys, job: Job, outcome: Outcome, *, calls: int = 0, throttles: int = 0) -> Call[Finished]:
    """End the job. Repeating this, here or in another delivery, changes nothing."""
    of_job: dict[str, object] = {
        "settlement": orjson.Fragment(outcome.settlement) if outcome.settlement else False,
        "ok": outcome.ok,
        "cost": str(outcome.cost - outcome.counted),
        "input_tokens": str(outcome.input_tokens),
        "output_tokens": str(outcome.output_tokens),
        "calls": str(calls),
        "throttles": str(throttles),
    }
    if outcome.cached_tokens:
        of_job["cached_tokens"] = str(outcome.cached_tokens)
    if outcome.reasoning_tokens:
        of_job["reasoning_tokens"] = str(outcome.reasoning_tokens)
    if outcome.again_cost is not None:
        of_job["again_cost"] = str(outcome.again_cost)
    script = load("tasks/jobs/lua/finish.lua")
    if job.batch is None:
        args = (0, KEEP_JOB, "", dumps(of_job) + b"\n" + outcome.line)
        return Call(script, (keys.clock, keys.job(job.id)), args, _finished)
    line, round_, workflow, proof = _line(job)
    of_job |= {"line": str(line), "round": str(round_), "workflow": workflow, "proof": proof}
    of_job["ceiling"] = outcome.ceiling
    if found := _counted(outcome):
        of_job["checks"] = found
    names = (
        keys.clock,
        *batch_keys(keys, job.batch),
        keys.ticks,
        keys.ticks_idle,
        keys.spent(job.batch),
        keys.offloaded(job.batch),
        keys.kept(job.batch),
    )
    args = (0, KEEP_JOB, f"collect:{job.batch}", dumps(of_job) + b"\n" + outcome.line)
    return Call(script, names, args, _finished, joins=True)


def _counted(outcome: Outcome) -> list[str]:
    """What a batch counts of an answer's check."""
    found = [outcome.check if outcome.ok else f"failed_{outcome.check}"] if outcome.check not in {"", "valid"} else []
    if outcome.again_cost is not None:
        found += ["again", "fixed"] if outcome.check in {"valid", "unchecked"} else ["again"]
    return found


def keep_answer(
    keys: Keys, job: Job, owner: str, kept: bytes, outcome: Outcome, *, calls: int = 0, throttles: int = 0
) -> Call[bool]:
    """Settle the call of an answer, and keep the answer until the job has another one.

    `owner`: of the lease; '' for a line in the batch lane. Returns False if the job has ended, or runs elsewhere.
    """
    script = load("tasks/jobs/lua/keep_answer.lua")
    head = (0, outcome.settlement, owner, kept)
    if job.batch is None:
        return Call(script, (keys.clock, keys.job(job.id)), (*head, ""), _kept)
    record, done, failed, _, owners, _ = batch_keys(keys, job.batch)
    names = (keys.clock, record, keys.kept(job.batch), owners, done, failed, keys.spent(job.batch))
    tokens = (outcome.input_tokens, outcome.output_tokens)
    counts = (
        outcome.cost - outcome.counted,
        *tokens,
        calls,
        throttles,
        outcome.cached_tokens,
        outcome.reasoning_tokens,
    )
    return Call(script, names, (*head, job.number, *counts), _kept)


def _kept(reply: Any) -> bool:
    return bool(reply[0])


def settle_line(keys: Keys, job: Job, settlement: bytes, closing: Settlement) -> Call[None]:
    """Settle a call of a batch's line whose job goes on, and count it in the batch."""
    assert job.batch is not None
    columns = closing.columns
    counts = [columns.get(name, 0) for name in ("input_tokens", "output_tokens", "calls", "throttled")]
    names = (keys.clock, keys.batch(job.batch), keys.spent(job.batch))
    args: tuple[str | bytes | int, ...] = (0, settlement, job.number, closing.amount, *counts)
    return Call(load("tasks/jobs/lua/settle_line.lua"), names, args, _nothing)


def report_blocker(keys: Keys, batch: str, words: str) -> Call[None]:
    """Report what holds up a batch. The report expires soon if it isn't repeated."""
    return Call(load("tasks/jobs/lua/report_blocker.lua"), (keys.batch(batch),), (words,), _nothing)


def _finished(reply: Any) -> Finished:
    return Finished(counts=bool(reply[0]))


def leave(keys: Keys, job: Job, owner: str) -> Call[None]:
    """Give up the lease of a job that goes back to its queue."""
    return _lease_call(keys, job, owner, "leave", 0)


def renew(keys: Keys, job: Job, owner: str, lease: float = LEASE) -> Call[None]:
    """Renew the lease of a running job."""
    return _lease_call(keys, job, owner, "renew", int(lease * SECOND))


def _lease_call(keys: Keys, job: Job, owner: str, what: str, lease: int) -> Call[None]:
    script = load("tasks/jobs/lua/lease.lua")
    if job.batch is None:
        return Call(script, (keys.job(job.id),), (what, owner, lease, "", KEEP_JOB), _nothing)
    names = batch_keys(keys, job.batch)
    return Call(script, (names[3], names[4]), (what, owner, lease, "", job.number), _nothing)


def _nothing(reply: Any) -> None:
    del reply


@lru_cache(maxsize=1024)
def batch_keys(keys: Keys, batch: str) -> tuple[str, ...]:
    """A batch's keys: record, done, failed, leases, owners, results; the scripts take a part of them in this order."""
    return (
        keys.batch(batch),
        keys.done(batch),
        keys.failed(batch),
        keys.job_leases(batch),
        keys.job_owners(batch),
        keys.results(batch),
    )
