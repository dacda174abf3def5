"""One attempt at a job: what it asks of the admission, and which route the admission has chosen.

Nothing here does I/O: `plan` is a function of the job, the models, the prices and the time.
"""

import time
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import orjson

from limits.circuit import CircuitSettings
from limits.counting import Estimate
from limits.reservation import Admitted, Ask
from tasks.jobs import flex, surcharges
from tasks.jobs.job import Job, Line
from tasks.jobs.state import JobState
from workers.config.settings import WorkflowSettings
from workers.ids import unique_id
from workers.models import budgets, tokens
from workers.models.calibration import Ratios
from workers.models.routing import NoPrice, Route, Routes
from workers.models.tiers import CHEAPER, FLEX
from workers.providers import bodies
from workers.providers.answer import Sink
from workers.providers.ceiling import with_ceiling_in
from workers.providers.errors import AccountBlocked, ProviderError

#: Tokens: the ceiling of an answer if neither the job nor its workflow sets one. If a budget applies, it is sent with
#: the request, so that the held money is an upper bound. Otherwise it is only an estimate for the quota.
DEFAULT_OUTPUT: Final = 4_096

#: Seconds: how far ahead of its time a call may be admitted. It waits for that time in its worker, not in its queue.
MAX_AHEAD: Final = 5.0

#: Seconds after which an attempt that asks again is planned again: prices, token ratios and budget windows change.
FRESH: Final = 20.0

#: No target has refused a name of the ceiling yet.
NONE_LEARNED: Final[Mapping[str, str]] = {}

#: When a target's circuit opens and closes, and how many retries it allows.
CIRCUIT = CircuitSettings()


@dataclass(slots=True)
class Attempt:
    """One attempt at a job: what it asks of the admission, and the route that it was given.

    bodies, estimates  by target, since each model may name the ceiling of its answer differently
    excluding          failed targets are left out
    wait               seconds until an admitted call may be sent
    is_sent            the admission has let the call be sent
    written            the request was handed to a connection
    asked_at           when the admission was last asked, in monotonic seconds like all times here
    sink               who gets the events of a stream as they come; None: they are kept until it ends
    """

    job: Job
    routes: list[Route]
    bodies: dict[str, dict[str, Any]]
    estimates: dict[str, Estimate]
    ask: Ask
    route: Route
    number: int
    excluding: bool = False
    wait: float = 0.0
    is_sent: bool = False
    written: bool = False
    planned_at: float = field(default_factory=time.monotonic)
    asked_at: float = 0.0
    sent_at: float = field(default_factory=time.monotonic)
    sink: Sink | None = None

    @property
    def stale(self) -> bool:
        """Whether it must be planned again before it asks again."""
        return time.monotonic() - self.planned_at > FRESH

    def leaves_open(self, error: ProviderError, routes: Iterable[Route]) -> bool:
        """Whether the failure of this attempt's route leaves one of `routes` open.

        A blocked account closes all of its routes, or those to the same model. A 429 closes the routes that share the
        model's quota.
        """
        if isinstance(error, AccountBlocked):
            if error.certain:
                return any(route.account != self.route.account for route in routes)
            return any(route.scope != self.route.scope for route in routes)
        return any(route.buckets[0][0] != self.route.buckets[0][0] for route in routes)

    def admitted(self, admitted: Admitted) -> None:
        """Take over the route that the admission has chosen."""
        self.route = self.routes[admitted.candidate]
        self.wait = admitted.wait
        self.is_sent = admitted.sent

    @property
    def lane(self) -> str:
        """How the call reaches its provider: live, flex or batch."""
        return self.route.tier if self.route.tier in CHEAPER else "live"

    @property
    def is_flex(self) -> bool:
        """Whether the call asks for the flex tier."""
        return self.route.tier == FLEX

    @property
    def estimate(self) -> Estimate:
        """The estimate of this attempt's target."""
        return self.estimates[self.route.target]

    @property
    def body(self) -> dict[str, Any]:
        """The request body for this attempt's target."""
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
    """The request bodies and token estimates, by target.

    An answer without a ceiling gets one if a budget applies, which needs an upper bound to hold, and for
    /v1/messages, which requires one. `ceilings`: the field name that each target takes for it, if one was learned.
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
        if route.tier == FLEX:
            body = {**body, "service_tier": FLEX}
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
    """The ledger's row for a call: workflow, batch, provider and model (tasks/monitoring/costs.py reads it)."""
    return orjson.dumps([workflow, batch or "", *target.split("/", 1)]).decode()


def _check_prices(routes: Routes, line: Line, chosen: Sequence[Route]) -> None:
    """Raise NoPrice or Surcharge if a route could cost an amount that no budget can hold."""
    for route in chosen:
        if route.rates is None:
            raise NoPrice(route.target)
    surcharges.check(routes.settings, line, chosen)


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
    """Plan the next attempt. Raises NoRoute if no target can take the job.

    `excluded`: the targets that have failed in this delivery, to be asked only if there is no other. `now`: seconds
    since the epoch. `lease`: seconds.
    """
    possible = flex.at_tier(job, routes.find(job.line.model, job.line.url), state)
    chosen = routes.order(possible, excluded=excluded) or routes.order(possible)
    workflow = routes.settings.workflow(job.workflow)
    over = budgets.windows(routes.settings, job.workflow, job.batch, now)
    budgeted = bool(over) or job.spending_cap is not None
    if budgeted:
        _check_prices(routes, job.line, chosen)
    sent, estimates = assess(job.line, chosen, workflow, budgeted=budgeted, ratios=ratios, ceilings=ceilings)
    ask = Ask(
        id=unique_id(),
        owner=owner,
        candidates=tuple(
            route.candidate(estimates[route.target], row(job.workflow, job.batch, route.target)) for route in chosen
        ),
        budgets=over,
        max_wait=MAX_AHEAD,
        lease=lease,
        retry=state.attempts > 0,
        urgent=workflow.priority == "urgent",
        send_at_once=True,
        circuit=CIRCUIT,
    )
    return Attempt(job, chosen, sent, estimates, ask, chosen[0], state.attempts + 1, len(chosen) < len(possible))
