"""Planning an attempt: which routes it may take, what each would cost, and which of them only if money is short."""

import time

from limits.circuit import CircuitSettings
from limits.reservation import Ask, Candidate
from tasks.jobs import flex, prompt_cache, surcharges
from tasks.jobs.attempt import MAX_AHEAD, Attempt, assess, row
from tasks.jobs.delivery import Delivery
from tasks.jobs.job import Job
from tasks.jobs.pricing import LookUpFailed
from workers.ids import unique_id
from workers.models import budgets
from workers.models.routing import NoPrice, NoRoute

#: When a target's circuit opens and closes, and how many retries it allows.
CIRCUIT = CircuitSettings()


async def plan(delivery: Delivery) -> Attempt:
    """Plan the next attempt, with the prices that it needs.

    Raises NoRoute if no target can take the job, OverCap if it could cost more than its agent's cap has left, and
    LookUpFailed if its price is missing and the price table does not answer.
    """
    priced = delivery.runtime.priced
    await priced.ready()
    looked_up: set[str] = set()
    while True:
        try:
            attempt = planned(delivery)
        except NoPrice as missing:
            if missing.target in looked_up:
                raise
            looked_up.add(missing.target)
            await priced.look_up(missing.target)
            continue
        without = attempt.no_fallback
        if not isinstance(without, NoPrice) or without.target in looked_up:
            return attempt
        looked_up.add(without.target)
        try:
            await priced.look_up(without.target)
        except LookUpFailed:
            return attempt  # its own model may be paid for


def planned(delivery: Delivery) -> Attempt:
    """The next attempt at the prices known now, without I/O. The routes of a cheaper model come last.

    Raises NoRoute and OverCap as `plan` does; NoPrice is a NoRoute.
    """
    job, runtime = delivery.job, delivery.runtime
    over = budgets.windows(runtime.settings, job.workflow, job.batch, time.time())
    attempt = Attempt(job, delivery.state, number=delivery.state.attempts + 1)
    candidates = _add_routes(attempt, delivery, job, budgeted=bool(over) or job.spending_cap is not None)
    # A further answer by the cheaper model would be no better: the job keeps what it has.
    if over and delivery.kept is None and (cheaper := delivery.workflow.cheaper_than(job.line.model)):
        try:
            candidates += _add_routes(attempt, delivery, job.of_model(cheaper), budgeted=True, fallback=True)
        except NoRoute as why:
            attempt.no_fallback = why
    attempt.ask = Ask(
        id=unique_id(),
        owner=runtime.owner,
        candidates=tuple(candidates),
        budgets=over,
        max_wait=MAX_AHEAD,
        lease=runtime.lease,
        retry=delivery.state.attempts > 0,
        urgent=delivery.workflow.priority == "urgent",
        send_at_once=True,
        circuit=CIRCUIT,
    )
    if job.spending_cap is not None:
        job.spending_cap.hold(job.call, delivery.state.cost + max(each.amount for each in candidates))
    return attempt


def _add_routes(
    attempt: Attempt, delivery: Delivery, job: Job, *, budgeted: bool, fallback: bool = False
) -> list[Candidate]:
    """Add the routes of a job's model to the attempt, and return them as candidates.

    Raises NoRoute if there is none, or if one could cost an amount that no budget can hold.
    """
    line, runtime = job.line, delivery.runtime
    found = flex.at_tier(job, runtime.routes.find(line.model, line.url), delivery.state)
    routes = runtime.routes.order(found, delivery.prefix)
    if budgeted:
        for route in routes:
            if route.rates is None:
                raise NoPrice(route.target)
        surcharges.check(runtime.settings, line, routes)
    bodies, estimates = assess(
        line,
        routes,
        delivery.workflow,
        budgeted=budgeted,
        ratios=runtime.ratios,
        ceilings=runtime.ceilings,
        raised=job.ceiling,
    )
    if delivery.prefix:
        bodies = prompt_cache.keyed(bodies, routes, runtime.settings, delivery.prefix)
    attempt.routes += routes
    attempt.bodies = bodies | attempt.bodies
    attempt.estimates = estimates | attempt.estimates
    return [
        route.candidate(
            attempt.estimates[route.target],
            row(job.workflow, job.batch, route.target),
            not_before=delivery.not_before_in(route.target),
            fallback=fallback,
        )
        for route in routes
    ]
