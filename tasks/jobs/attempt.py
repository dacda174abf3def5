"""One attempt at a job: what is asked of the admission, and which route the admission has chosen.

Nothing here talks to anybody: `plan` is a function of the job and of what is known of models, prices and the time.
"""

import time
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import orjson

from limits.circuit import CircuitSettings
from limits.counting import Estimate
from limits.reservation import Admitted, Ask
from tasks.jobs import surcharges
from tasks.jobs.job import Job, Line
from tasks.jobs.state import JobState
from workers.config.settings import WorkflowSettings
from workers.ids import unique_id
from workers.models import budgets, tokens
from workers.models.calibration import Ratios
from workers.models.routing import NoPrice, Route, Routes
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
    """One attempt at a job: what is asked of the admission, and which route it was given.

    `bodies` and `estimates` are by target: each model may name the ceiling of its answer differently. `narrowed`:
    targets of its model that have failed are left out. `asked_at` is when it was last asked whether the call may
    leave, in monotonic seconds like all times here. `written`: the request was handed to a connection.
    """

    job: Job
    routes: list[Route]
    bodies: dict[str, dict[str, Any]]
    estimates: dict[str, Estimate]
    ask: Ask
    route: Route
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

    def way_around(self, error: ProviderError, routes: Iterable[Route]) -> bool:
        """Whether the failure of the route it took leaves one of `routes` open.

        A blocked account shuts all routes of its own, or those to the same model, and a 429 those that draw on the same
        quota of the model.
        """
        if isinstance(error, AccountBlocked):
            if error.certain:
                return any(route.account != self.route.account for route in routes)
            return any(route.scope != self.route.scope for route in routes)
        return any(route.buckets[0][0] != self.route.buckets[0][0] for route in routes)

    def admitted(self, admitted: Admitted) -> None:
        """Note which route the admission has chosen."""
        self.route = self.routes[admitted.candidate]
        self.wait = admitted.wait
        self.is_sent = admitted.sent

    @property
    def estimate(self) -> Estimate:
        """The estimate of this attempt's target."""
        return self.estimates[self.route.target]

    @property
    def body(self) -> dict[str, Any]:
        """What is sent to this attempt's target."""
        return self.bodies[self.route.target]


def assess(
    line: Line,
    routes: Sequence[Route],
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
    for route in routes:
        if route.target in estimates:
            continue
        body = line.body
        if unbounded and (budgeted or workflow.default_max_tokens or line.url == bodies.MESSAGES):
            body = bodies.with_output_ceiling(line.url, body, output, model=route.model)
        if line.url == bodies.CHAT and (field := ceilings.get(route.target)):
            body = with_ceiling_in(body, field)
        sent[route.target] = body
        estimates[route.target] = tokens.estimate(
            line.url,
            body,
            model=route.target,
            output_default=output,
            ratios=ratios,
            window=(route.rates and route.rates.window) or tokens.WINDOW,
        )
    return sent, estimates


def row(workflow: str, batch: str | None, target: str) -> str:
    """The ledger's row of such a call: what money is told by (tasks/monitoring/costs.py reads it)."""
    return orjson.dumps([workflow, batch or "", *target.split("/", 1)]).decode()


def plan(
    routes: Routes,
    ratios: Ratios,
    job: Job,
    state: JobState,
    *,
    owner: str,
    excluded: Collection[str],
    now: float,
    lease: float,
    ceilings: Mapping[str, str] = NONE_LEARNED,
) -> Attempt:
    """What to ask of the admission for the next attempt; NoRoute where nothing can take the job.

    `excluded` holds the targets that have failed in this delivery; they are asked only where there is no other.
    `now` in seconds since the epoch, `lease` in seconds.
    """
    every = routes.find(job.line.model, job.line.url)
    chosen = routes.order(every, excluded=excluded) or routes.order(every)
    workflow = routes.settings.workflow(job.workflow)
    over = budgets.windows(routes.settings, job.workflow, job.batch, now)
    budgeted = bool(over) or job.spending_cap is not None
    for route in chosen:
        if budgeted and route.rates is None:
            raise NoPrice(route.target)
    if budgeted:
        surcharges.check(routes.settings, job.line, chosen)
    sent, estimates = assess(job.line, chosen, workflow, budgeted=budgeted, ratios=ratios, ceilings=ceilings)
    ask = Ask(
        id=unique_id(),
        owner=owner,
        candidates=tuple(
            route.candidate(estimates[route.target], row(job.workflow, job.batch, route.target)) for route in chosen
        ),
        budgets=over,
        max_wait=MAX_WAIT,
        lease=lease,
        retry=state.attempts > 0,
        urgent=workflow.priority == "urgent",
        send_at_once=True,
        circuit=CIRCUIT,
    )
    narrowed = len(chosen) < len(every)
    return Attempt(job, chosen, sent, estimates, ask, chosen[0], state.attempts + 1, narrowed)
