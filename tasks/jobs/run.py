"""One delivery of a job, from its queue to its result, on one screen.

    begin ─► admission ─► call ─► finish            one attempt, the usual case
                  │         └─► settle ─► again      a failure that another attempt may fix
                  └─► snooze                         denied for long: back to the queue, no attempt spent

A message is acknowledged only after its job is finished, and a job is finished once. An agent's job makes many calls,
and each of them goes through `attempts`, too (tasks/agents).
"""

import asyncio
import logging
import time
from dataclasses import replace
from typing import Any, Final

import orjson
import redis
from celery import signals
from celery.exceptions import SoftTimeLimitExceeded

from limits.client.connection import Server, open_client
from limits.errors import ServerUnavailable
from limits.keys import Keys
from tasks.jobs import flex, hooks, retry, runners, store
from tasks.jobs import job as jobs
from tasks.jobs.admission import Admission, back_off, ended, other_configuration, snooze_if_closed
from tasks.jobs.attempt import Attempt
from tasks.jobs.failover import Failover
from tasks.jobs.job import Job
from tasks.jobs.reserving import Revoked
from tasks.jobs.runtime import Runtime
from tasks.jobs.state import JobState
from tasks.jobs.stops import Stopped
from tasks.jobs.store import Outcome
from workers.celery import app
from workers.config.current import current_settings
from workers.embedded import server_url
from workers.models.routing import NotConfigured
from workers.pool.coroutine import CoroutineTask, current_request
from workers.providers.ceiling import OTHER
from workers.providers.errors import AccountBlocked, ProviderError
from workers.request import HEADER, Snooze
from workers.transport.envelope import JOB
from workers.transport.queues import workflow_of

log = logging.getLogger(__name__)

#: How often the worker's own code may fail on a job before the job fails.
MAX_CRASHES: Final = 3

#: Seconds that a job is snoozed if the Redis server is unreachable.
SERVER_AWAY: Final = 2.0

#: Seconds that a job is snoozed after the worker's own code has failed on it.
AFTER_CRASH: Final = 15.0


@app.task(  # type: ignore[untyped-decorator]  # Celery has no types
    name=JOB,
    bind=True,
    base=CoroutineTask,
    Request="workers.request:JobRequest",
    resultrepr_maxsize=1,  # an answer is private: Celery would log its first kilobyte
    max_retries=None,
    typing=False,  # our own check answers a message with unknown arguments, in words
)
async def run_job(_self: Any, *args: Any, **kwargs: Any) -> dict[str, Any] | None:
    """The Celery task of every job. `kwargs` is `{"job": <an input line>}`, with batch, line and round in a batch."""
    runtime = await Runtime.current()
    request = current_request.get()
    queue = (request.delivery_info or {}).get("routing_key") or ""
    headers = request.headers or {}
    state = JobState.from_header(headers.get(HEADER))
    workflow = workflow_of(queue) or "default"
    job, problem = jobs.received(args, kwargs, task_id=request.id, workflow=workflow, headers=headers)
    problem = problem or runtime.settings.refusal(workflow)
    with hooks.delivery(job, request.id, headers):
        return await deliver(runtime, job, problem, state)


async def deliver(runtime: Runtime, job: Job, problem: str, state: JobState) -> dict[str, Any] | None:
    """Run a job that has arrived. Whatever happens, the job either ends or is snoozed; it is never lost."""
    try:
        if problem or state.crashes >= MAX_CRASHES:
            if job.batch and (await runtime.begin(job, state)).verdict == "refused":
                return refused(job, state)
            words = problem or f"it passed its time limit, or the worker failed, {state.crashes} times"
            code = "invalid_request" if problem else "internal_error"
            return await runtime.finish(job, ended(job, state, code, words), state)
        return await run(runtime, job, state)
    except (ServerUnavailable, redis.RedisError):
        raise Snooze(SERVER_AWAY, "the Redis server is away", state.to_header()) from None
    except (Snooze, asyncio.CancelledError):
        raise
    except SoftTimeLimitExceeded:
        raise Snooze(0.0, "its soft time limit passed while it waited", state.to_header()) from None
    except Exception as exc:
        # Celery would acknowledge a failed task, and the job would be lost.
        log.exception("job %s failed in the worker's own code", job.id)
        state.crashes += 1
        if state.crashes >= MAX_CRASHES:
            outcome = ended(job, state, "internal_error", f"the worker failed {MAX_CRASHES} times: {exc!r}")
            return await runtime.finish(job, outcome, state)
        raise Snooze(AFTER_CRASH, f"worker error: {type(exc).__name__}", state.to_header()) from None


async def run(runtime: Runtime, job: Job, state: JobState) -> dict[str, Any] | None:
    """Run the job unless it has ended or runs elsewhere. Returns its result line; None if it has none to return."""
    job = await flex.in_lane(runtime.priced, runtime.flex_refused, job, state)
    if not job.line.agent:  # only the agent knows which models it will ask for
        try:
            snooze_if_closed(runtime, job, state)
        except Snooze:
            runtime.gates.arrived(job.workflow)
            raise
    if early := state.left():
        await asyncio.sleep(early)
    await runtime.slow_start.turn(state.owner, job.paced_as)
    try:
        return await begin(runtime, job, state)
    finally:
        runtime.slow_start.end(state.owner)


async def begin(runtime: Runtime, job: Job, state: JobState) -> dict[str, Any] | None:
    """Run the job if it has not ended and no other delivery runs it."""
    begun = await runtime.begin(job, state)
    if job.line.agent or begun.verdict != "run":  # it may never ask for admission
        runtime.gates.arrived(job.workflow)
        runtime.slow_start.end(state.owner)
    match begun.verdict:
        case "held":
            raise Snooze(begun.wait, "another delivery of this job is running", state.to_header())
        case "done":
            return begun.answer
        case "stopped" | "stale" | "gone":
            return None
        case "refused":
            return refused(job, state)
    try:
        async with runtime.leases.held(job, state.owner):
            return await runners.of_kind(job.line.kind)(runtime, job, state, attempts)
    except NotConfigured as missing:
        await other_configuration(runtime, job, state, missing)
    except Stopped:
        return None  # the lease is given up, and the batch ends this line with its other lines


async def call_once(runtime: Runtime, job: Job, state: JobState, attempts: runners.Attempts) -> dict[str, Any] | None:
    """Run a job that is one call to a model."""
    return await runtime.finish(job, await attempts(runtime, job, state), state)


runners.register("call", call_once)


async def attempts(runtime: Runtime, job: Job, state: JobState) -> Outcome:
    """Call until there is an answer or a final failure. Raises Snooze if the job must wait in its queue."""
    failover = Failover()
    last_failure: retry.Fail | None = None
    renamed: set[str] = set()
    while True:
        attempt = await Admission(runtime, job, state, failover, last_failure).granted()
        if isinstance(attempt, Outcome):
            return attempt
        try:
            await runtime.wait_until_sent(attempt, state)
            answer = await runtime.call(attempt, state)
        except Revoked:
            continue
        except ProviderError as error:
            is_again = flex.goes_live(runtime.flex_refused, attempt.route, job, error, state)
            if is_again or await learned(runtime, attempt, error, renamed):
                state.cost += await runtime.settle_failure(attempt, error, state)
                continue
            decision = decide(runtime, attempt, error, state, failover, last_failure)
            if isinstance(decision, retry.Fail):
                return await runtime.failed(attempt, error, decision, state)
            state.cost += await runtime.settle_failure(attempt, error, state)
            if isinstance(decision, retry.Retry):
                await before_retry(decision, attempt, error, state, failover)
            elif decision.last_failure:  # otherwise the admission knows now which routes are open, and when
                last_failure = decision.last_failure
                failover.end()
        else:
            return runtime.answered(attempt, answer, state)


def decide(
    runtime: Runtime,
    attempt: Attempt,
    error: ProviderError,
    state: JobState,
    failover: Failover,
    last_failure: retry.Fail | None,
) -> retry.Decision:
    """Count the failure, and decide what follows from it."""
    job = attempt.job
    state.failed(error)
    routes = runtime.routes.find(job.line.model, job.line.url)
    return retry.decide(
        error,
        attempts=state.attempts,
        max_attempts=state.most_attempts(runtime.max_attempts(job)),
        throttles=state.throttles,
        alone=state.alone,
        # If a route stays closed until the deadline, the targets that have failed are tried again.
        other_targets=last_failure is None and failover.has_others(attempt.route.target, routes),
        other_routes=attempt.leaves_open(error, routes),
        time_left=job.deadline - time.time() if job.deadline else None,
    )


async def before_retry(
    decision: retry.Retry, attempt: Attempt, error: ProviderError, state: JobState, failover: Failover
) -> None:
    """Exclude the failed target if the next attempt goes to another one; otherwise wait for the backoff."""
    if decision.exclude and error.code != "time_limit":
        failover.exclude(attempt.route.target, decision.backoff)
        return
    failover.end()
    reason = f"refused alone: {error}" if error.only_for else f"attempt {state.attempts} failed: {error}"
    if error.code == "time_limit":
        raise Snooze(decision.seconds, reason, state.to_header()) from None
    await back_off(state, decision.seconds, reason)


def refused(job: Job, state: JobState) -> dict[str, Any]:
    """The result of a message that claims to be a line of a batch but was not handed out by its feed.

    Nothing is recorded. If another version of Overnight has handed it out, the feed finds the line missing and hands
    it out again.
    """
    log.warning("a message of workflow %s is refused: it is no line of batch %.80s", job.workflow, job.batch)
    words = "this message is no line of the batch that it names: only the batch's own feed hands out its lines"
    outcome = ended(job, state, "invalid_request", words)
    hooks.ended(outcome)
    line: dict[str, Any] = orjson.loads(outcome.line)
    return line


async def learned(runtime: Runtime, attempt: Attempt, error: ProviderError, renamed: set[str]) -> bool:
    """Keep what a refusal says about its account or model. Returns True if the call is made again, spending no attempt.

    `renamed`: the targets at which this delivery has already used the other name of the answer's ceiling.
    """
    if isinstance(error, AccountBlocked):
        await runtime.refused(attempt, error)
    target = attempt.route.target
    if not error.ceiling_field or target in renamed or attempt.body.get(OTHER[error.ceiling_field]) is None:
        return False
    runtime.ceilings[target] = error.ceiling_field
    renamed.add(target)
    return True


@signals.task_revoked.connect  # type: ignore[untyped-decorator]  # Celery has no types
def end_revoked(sender: Any, request: Any, expired: bool = False, **_: Any) -> None:
    """End a job that was revoked or whose message had expired, so that its batch does not wait for it."""
    if sender.name != JOB:
        return
    queue = (request.delivery_info or {}).get("routing_key") or ""
    workflow = workflow_of(queue) or "default"
    job, _problem = jobs.received(
        request.args, request.kwargs, task_id=request.id, workflow=workflow, headers=request.headers
    )
    state = JobState.from_header((request.headers or {}).get(HEADER))
    code, words = ("expired", "its message had expired") if expired else ("revoked", "it was revoked")
    outcome = replace(ended(job, state, code, words), counted=state.counted_cost)
    settings = current_settings()
    server = Server(open_client(server_url(settings)))
    server.run(store.finish(Keys(settings.namespace), job, outcome))
