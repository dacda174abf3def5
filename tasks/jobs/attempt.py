"""One attempt at a job: what is asked of the admission, and which way the admission has chosen.

Nothing here talks to anybody: `plan` is a function of the job and of what is known of models, prices and the time.
"""

import time
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import orjson

from limits.admission import Admitted, Ask
from limits.circuit import CircuitSettings
from limits.counting import Estimate
from tasks.jobs import surcharges
from tasks.jobs.job import Job, Line
from tasks.jobs.state import Memory
from workers.config.settings import WorkflowSettings
from workers.ids import unique_id
from workers.models import budgets, tokens
from workers.models.calibration import Ratios
from workers.models.routing import NoPrice, Routes, Way
from workers.providers import bodies
from workers.providers.ceiling import with_ceiling_in
from workers.providers.errors import AccountBlocked, ProviderError

#: The ceiling of an answer where neither job nor workflow says one. Where a budget applies it is sent with the
#: job, so that what is held is a bound; else it only paces the quota.
DEFAULT_OUTPUT: Final = 4_096

#: The most that a reservation may lie ahead, in seconds: so long a job waits in its worker instead of its queue.
MAX_WAIT: Final = 5.0


#: For how many seconds an attempt that has to ask again may stay as it was planned.
FRESH: Final = 20.0

NONE_LEARNED: Final[Mapping[str, str]] = {}

#: When a target's circuit opens and comes back, and how retries of its calls are rationed.
CIRCUIT = CircuitSettings()


@dataclass(slots=True)
class Attempt:
    """One attempt at a job: what is asked of the admission, and which way it was given.

    `bodies` and `estimates` are by target: each model may name the ceiling of its answer differently. `narrowed`:
    targets of its model that have failed are left out. `asked_at` is when it was last asked whether the call may
    leave, in monotonic seconds like all times here. `written`: the request was handed to a connection.
    """

    job: Job
    ways: list[Way]
    bodies: dict[str, dict[str, Any]]
    estimates: dict[str, Estimate]
    ask: Ask
    way: Way
    number: int
    narrowed: bool = False
    wait: float = 0.0
    is_sent: bool = False
    written: bool = False
    planned_at: float = field(default_factory=time.monotonic)
    asked_at: float = 0.0
    sent_at: float = field(default_factory=time.monotonic)

    @property
    def stale(self) -> bool:
        """Whether it is to be planned anew before it asks again: prices, ratios and windows move on."""
        return time.monotonic() - self.planned_at > FRESH

    def way_around(self, error: ProviderError, ways: Iterable[Way]) -> bool:
        """Whether one of the `ways` is left open by the failure of the one it took.

        A blocked account shuts all ways of its own, or those to the same model, and a 429 those that draw on the same
        quota of the model.
        """
        if isinstance(error, AccountBlocked):
            if error.certain:
                return any(way.account != self.way.account for way in ways)
            return any(way.scope != self.way.scope for way in ways)
        return any(way.buckets[0][0] != self.way.buckets[0][0] for way in ways)

    def admitted(self, admitted: Admitted) -> None:
        """Note which way the admission has chosen."""
        self.way = self.ways[admitted.candidate]
        self.wait = admitted.wait
        self.is_sent = admitted.sent

    @property
    def estimate(self) -> Estimate:
        """The estimate of this attempt's target."""
        return self.estimates[self.way.target]

    @property
    def body(self) -> dict[str, Any]:
        """What is sent to this attempt's target."""
        return self.bodies[self.way.target]


def assess(
    line: Line,
    ways: Sequence[Way],
    workflow: WorkflowSettings,
    *,
    budgeted: bool,
    ratios: Ratios | None = None,
    ceilings: Mapping[str, str] = NONE_LEARNED,
) -> tuple[dict[str, dict[str, Any]], dict[str, Estimate]]:
    """What would be sent to each target, and how many tokens that has; by target.

    An answer without a ceiling gets one if a budget applies, which could hold nothing without it, and of
    /v1/messages, which requires one. `ceilings` holds the name that each target takes for it, if a refusal told one.
    """
    output = workflow.default_max_tokens or DEFAULT_OUTPUT
    unbounded = bodies.output_ceiling(line.url, line.body) is None
    sent: dict[str, dict[str, Any]] = {}
    estimates: dict[str, Estimate] = {}
    for way in ways:
        if way.target in estimates:
            continue
        body = line.body
        if unbounded and (budgeted or workflow.default_max_tokens or line.url == bodies.MESSAGES):
            body = bodies.with_output_ceiling(line.url, body, output, model=way.model)
        if line.url == bodies.CHAT and (field := ceilings.get(way.target)):
            body = with_ceiling_in(body, field)
        sent[way.target] = body
        estimates[way.target] = tokens.estimate(
            line.url,
            body,
            model=way.target,
            output_default=output,
            ratios=ratios,
            window=(way.rates and way.rates.window) or tokens.WINDOW,
        )
    return sent, estimates


def row(workflow: str, batch: str | None, target: str) -> str:
    """The ledger's row of such a call: what money is told by (tasks/monitoring/costs.py reads it)."""
    return orjson.dumps([workflow, batch or "", *target.split("/", 1)]).decode()


def plan(
    routes: Routes,
    ratios: Ratios,
    job: Job,
    memory: Memory,
    *,
    owner: str,
    avoid: Collection[str],
    now: float,
    lease: float,
    ceilings: Mapping[str, str] = NONE_LEARNED,
) -> Attempt:
    """What to ask of the admission for the next attempt; NoRoute where nothing can take the job.

    `avoid` holds the targets that have failed in this delivery; they are asked only where there is no other.
    `now` in seconds since the epoch, `lease` in seconds.
    """
    every = routes.ways(job.line.model, job.line.url)
    ways = routes.order(every, avoid=avoid) or routes.order(every)
    workflow = routes.settings.workflow(job.workflow)
    over = budgets.windows(routes.settings, job.workflow, job.batch, now)
    budgeted = bool(over) or job.purse is not None
    for way in ways:
        if budgeted and way.rates is None:
            raise NoPrice(way.target)
    if budgeted:
        surcharges.check(routes.settings, job.line, ways)
    sent, estimates = assess(job.line, ways, workflow, budgeted=budgeted, ratios=ratios, ceilings=ceilings)
    ask = Ask(
        id=unique_id(),
        owner=owner,
        candidates=tuple(
            way.candidate(estimates[way.target], row(job.workflow, job.batch, way.target)) for way in ways
        ),
        budgets=over,
        max_wait=MAX_WAIT,
        lease=lease,
        retry=memory.attempts > 0,
        urgent=workflow.priority == "urgent",
        send_at_once=True,
        circuit=CIRCUIT,
    )
    narrowed = len(ways) < len(every)
    return Attempt(job, ways, sent, estimates, ask, ways[0], memory.attempts + 1, narrowed)
