"""The best answer of a line that asks for another one, as Redis keeps it until the job ends.

It is written in the step that settles its call, so a worker that is killed afterwards repeats no answer that is paid.
"""

from dataclasses import dataclass, field, replace
from typing import Any

import orjson

from limits.budget import NANO
from limits.client.compact_json import loads
from tasks.answers.again import RANK, Again
from tasks.answers.checks import Result
from tasks.jobs import job as jobs
from tasks.jobs.job import Job
from tasks.jobs.state import JobState
from tasks.jobs.store import Ceiling, Outcome


@dataclass(slots=True)
class Kept:
    """The best answer so far. Money in n$.

    line        its result line
    check       the result of its check
    cut_off     whose ceiling cut it off
    answers     what each answer was and cost, as result lines tell it
    first_cost  what the job had cost with its first answer
    again       how the next answer is asked for
    state       the job's counts
    """

    round: int
    line: bytes
    check: Result
    cut_off: Ceiling
    first_cost: int
    answers: list[dict[str, Any]] = field(default_factory=list)
    again: Again = field(default_factory=Again)
    state: dict[str, int] = field(default_factory=dict)

    @property
    def cost(self) -> int:
        """What the job had cost when this was kept."""
        return self.state.get("cost", 0)

    def encode(self) -> bytes:
        """It, for Redis: JSON, a newline, and the result line."""
        again = (self.again.model, self.again.ceiling)
        head = (self.round, self.check, self.cut_off, self.first_cost, self.answers, again, self.state)
        return orjson.dumps(head) + b"\n" + self.line

    def asked(self, job: Job) -> Job:
        """The job as it asks for the next answer."""
        job = replace(job, ceiling=self.again.ceiling)
        return job.of_model(self.again.model) if self.again.model else job

    def best(self, outcome: Outcome) -> Outcome:
        """How the job ends: with this answer or with that of `outcome`, whichever is better, and with all costs."""
        last = loads(outcome.line)
        better = outcome.ok and RANK[_result(outcome)] >= RANK[self.check]
        line = last if better else loads(self.line)
        answers = [*self.answers, _entry(last, outcome.cost - self.cost)]
        line["overnight"] |= {"cost_usd": outcome.cost / NANO, "answers": answers}
        return replace(
            outcome,
            ok=True,
            line=jobs.encode(line),
            check=outcome.check if better else self.check,
            ceiling=outcome.ceiling if better else self.cut_off,
            again_cost=outcome.cost - self.first_cost,
        )


def keep(before: Kept | None, outcome: Outcome, again: Again, round_: int, state: JobState) -> Kept:
    """Keep the better one of two answers: that of `before`, if there was one, and that of `outcome`."""
    line = loads(outcome.line)
    cost = outcome.cost - (before.cost if before is not None else 0)
    answers = [*(before.answers if before is not None else ()), _entry(line, cost)]
    counts = {**state.counts(), "cost": outcome.cost, "counted_cost": outcome.cost}
    kept = Kept(round_, outcome.line, _result(outcome), outcome.ceiling, outcome.cost, answers, again, counts)
    if before is not None:
        kept.first_cost = before.first_cost
        if RANK[before.check] > RANK[kept.check]:
            kept.line, kept.check, kept.cut_off = before.line, before.check, before.cut_off
    return kept


def decode(raw: bytes, round_: int) -> Kept | None:
    """Read what `Kept.encode` has written; None if it is of an earlier round."""
    head, _, line = raw.partition(b"\n")
    found_round, check, cut_off, first_cost, answers, again, state = orjson.loads(head)
    if found_round != round_:
        return None
    return Kept(found_round, line, check, cut_off, first_cost, answers, Again(*again), state)


def instead_of(outcome: Outcome, raw: bytes | None, round_: int) -> Outcome:
    """How a line ends without another call: with the answer that it keeps, if it has one, else with `outcome`."""
    found = decode(raw, round_) if raw else None
    if found is None:
        return outcome
    counted = max(outcome.counted, found.state.get("counted_cost", 0))
    return found.best(replace(outcome, cost=max(outcome.cost, found.cost), counted=counted))


def _result(outcome: Outcome) -> Result:
    return outcome.check or "valid"


def _entry(line: dict[str, Any], cost: int) -> dict[str, Any]:
    """One answer, or why there was none. `cost`: n$, with the failed attempts before it."""
    report = line["overnight"]
    found: dict[str, Any] = {"provider": report["provider"], "model": report["model"], "cost_usd": cost / NANO}
    if line["error"] is not None:
        return {**found, "error": line["error"]}
    return {**found, "lane": report["lane"], "checks": report["checks"]}
