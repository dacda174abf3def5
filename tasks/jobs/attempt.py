"""One attempt at a job: what it asks of the admission, and which route the admission has chosen."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import orjson

from limits.counting import Estimate
from limits.reservation import Admitted, Ask
from tasks.jobs.bucket_calls import BucketCalls
from tasks.jobs.job import Job, Line
from tasks.jobs.state import JobState
from workers.config.settings import WorkflowSettings
from workers.models import tokens
from workers.models.calibration import Ratios
from workers.models.routing import NoRoute, Route
from workers.models.tiers import CHEAPER, FLEX
from workers.providers import bodies
from workers.providers.answer import Sink
from workers.providers.ceiling import with_ceiling_in

#: Tokens: the ceiling of an answer if neither the job nor its workflow sets one. If a budget applies, it is sent with
#: the request, so that the held money is an upper bound. Otherwise it is only an estimate for the quota.
DEFAULT_OUTPUT: Final = 4_096

#: Seconds: how far ahead of its time a call may be admitted. It waits for that time in its worker, not in its queue.
MAX_AHEAD: Final = 5.0

#: Seconds after which an attempt that asks again is planned again: prices, token ratios and budget windows change.
FRESH: Final = 20.0

#: No target has refused a name of the ceiling yet.
NONE_LEARNED: Final[Mapping[str, str]] = {}


@dataclass(slots=True)
class Attempt:
    """One attempt at a job: what it asks of the admission, and the route that it was given.

    bodies, estimates  by target, since each model may name the ceiling of its answer differently
    no_fallback        why the cheaper model that the workflow names cannot be asked; None if it can, or there is none
    wait               seconds until an admitted call may be sent
    is_sent            the admission has let the call be sent
    written            the request was handed to a connection
    asked_at           when the admission was last asked, in monotonic seconds like all times here
    starting           the bucket whose slow start counts it as starting; None if it doesn't start just now
    sink               who gets the events of a stream as they come; None: they are kept until it ends
    """

    job: Job
    state: JobState
    number: int
    routes: list[Route] = field(default_factory=list)
    bodies: dict[str, dict[str, Any]] = field(default_factory=dict)
    estimates: dict[str, Estimate] = field(default_factory=dict)
    ask: Ask = field(init=False)
    route: Route = field(init=False)
    no_fallback: NoRoute | None = None
    wait: float = 0.0
    is_sent: bool = False
    written: bool = False
    planned_at: float = field(default_factory=time.monotonic)
    asked_at: float = 0.0
    sent_at: float = field(default_factory=time.monotonic)
    starting: BucketCalls | None = None
    sink: Sink | None = None

    @property
    def stale(self) -> bool:
        """Whether it must be planned again before it asks again."""
        return self.has_failed or time.monotonic() - self.planned_at > FRESH

    @property
    def has_failed(self) -> bool:
        """Whether the job has failed at one of the targets just now, and must not try it yet."""
        return any(candidate.not_before for candidate in self.ask.candidates)

    def start(self, calls: BucketCalls) -> None:
        """It starts: its reservation is asked for."""
        calls.start()
        self.starting = calls

    def end_start(self) -> None:
        """Its start ends, if it hasn't ended: its request is written, or it must wait for something."""
        calls, self.starting = self.starting, None
        if calls is not None:
            calls.end_start()

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
    raised: int = 0,
) -> tuple[dict[str, dict[str, Any]], dict[str, Estimate]]:
    """The request bodies and token estimates, by target.

    An answer without a ceiling gets one if a budget applies, which needs an upper bound to hold, and for
    /v1/messages, which requires one. `ceilings`: the field name that each target takes for it, if one was learned.
    `raised`: the ceiling of each answer in place of the line's own, unless it is 0.
    """
    output = workflow.default_max_tokens or DEFAULT_OUTPUT
    ceiling = raised or (output if _needs_ceiling(line, workflow, budgeted=budgeted) else 0)
    sent: dict[str, dict[str, Any]] = {}
    estimates: dict[str, Estimate] = {}
    for route in routes:
        if route.target in estimates:
            continue
        body = line.body
        if ceiling:
            body = bodies.with_output_ceiling(line.url, body, ceiling, model=route.model)
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


def _needs_ceiling(line: Line, workflow: WorkflowSettings, *, budgeted: bool) -> bool:
    """Whether a ceiling must be sent, and the line sets none."""
    bounded = budgeted or workflow.default_max_tokens is not None or line.url == bodies.MESSAGES
    return bounded and bodies.output_ceiling(line.url, line.body) is None


def row(workflow: str, batch: str | None, target: str) -> str:
    """The ledger's row for a call: workflow, batch, provider and model (tasks/monitoring/costs.py reads it)."""
    return orjson.dumps([workflow, batch or "", *target.split("/", 1)]).decode()
