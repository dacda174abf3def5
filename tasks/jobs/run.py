"""One delivery of a job, from its queue to its result: the way that every job takes, on one screen.

    begin ─► admit ─► (wait) ─► call ─► finish            one attempt, the usual case
               ▲  │                └─► settle ─► again    a failure that another attempt may mend
               │  ├─► snooze                              denied for long: back into the queue, no attempt spent
               └──┘                                       the budget is spent: the cheaper model at once

Nothing is acknowledged before it is finished, and nothing is finished twice. An agent's job makes many calls, each
of which takes the same way (tasks/agents/runner.py).
"""

import asyncio
import logging
import math
import random
import time
from dataclasses import replace
from functools import partial
from platform import node
from typing import Any, NoReturn

import orjson
import redis
from celery import signals
from celery.exceptions import SoftTimeLimitExceeded

from limits.client.connection import Server, open_client
from limits.errors import ServerUnavailable
from limits.keys import Keys
from limits.reservation import Admitted, Denied, Impossible
from tasks.jobs import hooks, retry, runners, store
from tasks.jobs import job as jobs
from tasks.jobs.attempt import Attempt
from tasks.jobs.failover import Failover
from tasks.jobs.job import Job
from tasks.jobs.priced_routes import AFTER_FAILURE
from tasks.jobs.pricing import LookUpFailed
from tasks.jobs.runtime import Revoked, Runtime
from tasks.jobs.state import JobState
from tasks.jobs.stops import Stopped
from tasks.jobs.store import Outcome
from tasks.jobs.waitlist import AHEAD, BRIEF, LINED, Waiter, line_of
from workers.celery import app
from workers.config.current import current_settings
from workers.embedded import server_url
from workers.models.routing import NoRoute, NotConfigured
from workers.pool.coroutine import CoroutineTask, current_request, worker_is_stopping
from workers.providers.ceiling import OTHER
from workers.providers.errors import AccountBlocked, ProviderError
from workers.request import HEADER, Snooze
from workers.transport.envelope import JOB
from workers.transport.gates import LONG, gates
from workers.transport.queues import workflow_of

log = logging.getLogger(__name__)

#: A backoff up to so many seconds is spent in the worker, a longer one in the queue; so is a denial's wait.
MAX_WAIT, SHORT_WAIT = 2.0, 1.0

#: A job whose worker code failed unexpectedly is tried this often before it is given up.
MAX_CRASHES = 3

#: How long a job waits before it looks again whether a person has lifted a pause, in seconds.
LIFTED = 60.0

#: Denials that say when their own job is to come back: they say nothing of the next job.
PACED = frozenset({"retry_budget", "budget_held", "held"})

#: Seconds until a job comes back whose worker has another configuration, and for which that one claims no more of them.
OTHER_CONFIGURATION = 5.0

#: Seconds until a job comes back that found the server away, or the code failing.
SERVER_AWAY, AFTER_CRASH = 2.0, 15.0


@app.task(  # type: ignore[untyped-decorator]  # Celery has no types
    name=JOB,
    bind=True,
    base=CoroutineTask,
    Request="workers.request:JobRequest",
    resultrepr_maxsize=1,  # an answer is private: Celery would log its first kilobyte
    max_retries=None,
    typing=False,  # a message with unknown arguments is answered by our own check, in words
)
async def run_job(_self: Any, *args: Any, **kwargs: Any) -> dict[str, Any] | None:
    """The task that every job is: `kwargs` is `{"job": <an input line>}`, and for a batch's job which it is."""
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
    """Run a job that has arrived, whatever its message held; nothing that happens here loses it."""
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
    """Run the job unless it has ended or runs elsewhere; its result line, None where there is none to return."""
    # Which models an agent is going to ask for, only it knows.
    if not job.line.agent and (shut := gates.closed_for(job.workflow, job.line.model)):
        gates.arrived(job.workflow)
        raise Snooze(shut, f"jobs for {job.line.model} were denied just now", state.to_header())
    if early := state.left():
        await asyncio.sleep(early)
    await runtime.slow_start.turn(state.owner, job.line.model)
    try:
        return await start(runtime, job, state)
    finally:
        runtime.slow_start.over(state.owner)


async def start(runtime: Runtime, job: Job, state: JobState) -> dict[str, Any] | None:
    """Run the job if no other delivery of it does, and it has not ended; its result line as above."""
    begun = await runtime.begin(job, state)
    if job.line.agent or begun.verdict != "run":  # it may never ask for admission
        gates.arrived(job.workflow)
        runtime.slow_start.over(state.owner)
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
    except NotConfigured as older:
        await other_configuration(runtime, job, state, older)
    except Stopped:
        return None  # without a lease the line is ended with the others of its batch


async def call_once(runtime: Runtime, job: Job, state: JobState, attempts: runners.Attempts) -> dict[str, Any] | None:
    """Run a job that is one call to a model."""
    return await runtime.finish(job, await attempts(runtime, job, state), state)


runners.register("call", call_once)


async def admission(
    runtime: Runtime, job: Job, state: JobState, failover: Failover, otherwise: retry.Fail | None = None
) -> Attempt | Outcome:
    """An attempt that is admitted; an Outcome where there can be none; Snooze where the job must wait in its queue.

    `otherwise`: how a job ends that was refused already, where no way opens before its deadline. Who is on a failover
    shuts and crowds no gate: what it is denied says nothing of the jobs that may go either way.
    """
    asked, own = job, math.inf  # `own`: seconds until the job's own model may go, once a cheaper one is asked for
    attempt: Attempt | None = None
    heard, may_ask = False, True
    with runtime.waitlists.line() as line:
        while True:
            runtime.stops.check(job)
            if job.deadline and time.time() > job.deadline:
                late = otherwise or retry.Fail("batch_expired", "the batch's deadline passed before this job ran")
                return ended(job, state, late.code, late.message)
            if not may_ask:
                may_ask = await stand(runtime, line, job, state, failover)
                continue
            if attempt is None or attempt.stale:
                try:
                    attempt = await prepare(runtime, asked, job, state, failover)
                except NoRoute as nowhere:
                    if outcome := await nowhere_to_go(runtime, job, state, nowhere, own, otherwise, failover):
                        return outcome
                    asked, own, attempt = job, math.inf, None
                    continue
            if not line.name and line.behind(attempt):
                heard = heard or gates.arrived(job.workflow)
                may_ask = await stand(runtime, line, job, state, failover)
                continue
            answer = await runtime.admit(attempt, for_waitlist=bool(line.name))
            heard = heard or gates.arrived(job.workflow)
            if isinstance(answer, Admitted):
                if otherwise is not None and time.time() + answer.wait >= job.deadline:
                    await runtime.release(attempt)
                    return ended(job, state, otherwise.code, otherwise.message)
                goes(runtime, asked, attempt, failover, stood=bool(line.name))
                return attempt
            around = failover.left() if attempt.narrowed else None
            match runtime.not_admitted(asked, answer, own=own, otherwise=otherwise, around=around):
                case retry.FallBack() as fallback:
                    asked, own, attempt = job.of_model(fallback.model), fallback.seconds, None
                case retry.Fail() as fail:
                    return ended(job, state, fail.code, fail.message)
                case retry.Wait() as wait:
                    if isinstance(answer, Denied) and line.stand(attempt, answer):
                        may_ask = await stand(runtime, line, job, state, failover)
                    else:
                        standing = line_of(attempt, answer.subject)
                        as_planned = await stand_back(runtime, job, state, answer, wait, standing, failover)
                        attempt = attempt if as_planned else None
                    if asked is not job:
                        asked, own, attempt, may_ask = job, math.inf, None, True


async def prepare(runtime: Runtime, asked: Job, job: Job, state: JobState, failover: Failover) -> Attempt:
    """What to ask of the admission, as `Runtime.prepare` plans it; Snooze where a price cannot be looked up for now."""
    try:
        return await runtime.prepare(asked, state, failover.excluded)
    except LookUpFailed as failed:
        if asked is job:
            gates.arrived(job.workflow)
            gates.close(job.workflow, job.line.model, AFTER_FAILURE)
        raise Snooze(AFTER_FAILURE, str(failed), state.to_header()) from None


async def other_configuration(runtime: Runtime, job: Job, state: JobState, missing: NotConfigured) -> NoReturn:
    """A batch's line passed the check of its submit, and this worker's overnight.toml lacks what it names: Snooze.

    Another worker may have the file that it was submitted with, so this one leaves the workflow's queue alone a while.
    """
    gates.arrived(job.workflow)
    gates.close(job.workflow, job.line.model, OTHER_CONFIGURATION)
    words = f"a worker with its configuration: on {node()}, {missing} (restart workers whose overnight.toml is older)"
    await runtime.tell(job, words)
    raise Snooze(OTHER_CONFIGURATION, words, state.to_header()) from None


async def nowhere_to_go(
    runtime: Runtime,
    job: Job,
    state: JobState,
    nowhere: NoRoute,
    own: float,
    otherwise: retry.Fail | None,
    failover: Failover,
) -> Outcome | None:
    """The job's end if no target could ever take it; None once it has waited for its own model; Snooze as above.

    NotConfigured if that is not the line's fault.
    """
    if own == math.inf and job.batch and not job.call and isinstance(nowhere, NotConfigured):
        raise nowhere  # its line was checked when it was submitted
    left = job.deadline - time.time() if job.deadline else None
    follows = retry.never(nowhere, time_left=left, own=own, otherwise=otherwise)
    if isinstance(follows, retry.Fail):
        return ended(job, state, follows.code, follows.message)
    await stand_back(runtime, job, state, nowhere, follows, "", failover)
    return None


def goes(runtime: Runtime, asked: Job, attempt: Attempt, failover: Failover, *, stood: bool) -> None:
    """Tell the gates that a job was admitted. `stood`: it had to stand in line for it."""
    ahead = attempt.wait > AHEAD
    if ahead and not failover.excluded:
        wanted = partial(runtime.waitlists.wanted, line_of(attempt, attempt.route.buckets[0][0]))
        gates.limit(asked.workflow, asked.line.model, wanted)
    gates.admitted(asked.workflow, asked.line.model, waited=ahead or stood)


async def stand(runtime: Runtime, line: Waiter, job: Job, state: JobState, failover: Failover) -> bool:
    """Wait in line for a turn to ask, or for a while; whether it came. Snooze where there is none to wait for."""
    runtime.slow_start.over(state.owner)
    if not failover.excluded:
        gates.limit(job.workflow, job.line.model, partial(runtime.waitlists.wanted, line.name))
    may_ask = await line.turn()
    if worker_is_stopping():
        raise Snooze(0.0, "the worker stops", state.to_header())
    if shut := gates.closed_for(job.workflow, job.line.model):
        raise Snooze(shut, f"jobs for {job.line.model} were denied just now", state.to_header())
    return may_ask


async def stand_back(
    runtime: Runtime,
    job: Job,
    state: JobState,
    answer: Denied | Impossible | NoRoute,
    wait: retry.Wait,
    line: str,
    failover: Failover,
) -> bool:
    """Wait here where it is short; Snooze where the job must wait in its queue, as those of its `line` do.

    Returns whether the attempt is to ask again as it was planned: not where the failover has ended.
    """
    runtime.slow_start.over(state.owner)
    if failover.excluded and wait.seconds >= failover.left():
        await back_off(state, failover.left(), wait.reason)
        failover.end()
        return False
    if wait.seconds <= SHORT_WAIT:
        await asyncio.sleep(wait.seconds)
        return True
    seconds = wait.seconds
    if isinstance(answer, Denied) and answer.reason == "pause":
        seconds = min(seconds, LIFTED * (0.75 + 0.5 * random.random()))  # somebody may lift it
    crowded = isinstance(answer, Denied) and answer.reason == "concurrency"
    if isinstance(answer, Denied) and answer.reason not in PACED and not failover.excluded:
        opens = seconds if answer.opens_in is None else min(seconds, answer.opens_in)
        least = BRIEF if answer.reason == "pause" else LONG
        if crowded or (answer.reason in LINED and opens <= least):
            gates.limit(job.workflow, job.line.model, partial(runtime.waitlists.wanted, line))
        else:
            gates.close(job.workflow, job.line.model, opens, least, blocked=answer.reason == "latch")
    # Once its gate is ajar, whoever is let through may ask: the hints only keep jobs from coming all at once.
    exact = not (isinstance(answer, Denied) and answer.reason in LINED)
    raise Snooze(state.waits(seconds, exact=exact), wait.reason, state.to_header())


async def back_off(state: JobState, seconds: float, reason: str) -> None:
    """Let the time between two attempts pass: here where it is short, else in the queue, by a Snooze."""
    if seconds > MAX_WAIT:
        raise Snooze(seconds, reason, state.to_header()) from None
    await asyncio.sleep(seconds)


async def attempts(runtime: Runtime, job: Job, state: JobState) -> Outcome:
    """Call until there is an answer or a final failure; Snooze where the job must wait in its queue."""
    failover = Failover()
    otherwise: retry.Fail | None = None
    renamed: set[str] = set()
    while True:
        attempt = await admission(runtime, job, state, failover, otherwise)
        if isinstance(attempt, Outcome):
            return attempt
        try:
            await runtime.depart(attempt, state)
            answer = await runtime.call(attempt, state)
        except Revoked:
            continue
        except ProviderError as error:
            if await learned(runtime, attempt, error, renamed):
                state.cost += await runtime.settle_failure(attempt, error, state)
                continue
            state.failed(error)
            routes = runtime.routes.find(attempt.job.line.model, attempt.job.line.url)
            decision = retry.decide(
                error,
                attempts=state.attempts,
                max_attempts=state.most_attempts(runtime.max_attempts(job)),
                throttles=state.throttles,
                alone=state.alone,
                # Where a way is shut until the deadline, those that have failed are tried again.
                others=otherwise is None and failover.others(attempt.route.target, routes),
                way_around=attempt.way_around(error, routes),
                time_left=job.deadline - time.time() if job.deadline else None,
            )
            if isinstance(decision, retry.Fail):
                return await runtime.failed(attempt, error, decision, state)
            state.cost += await runtime.settle_failure(attempt, error, state)
            if isinstance(decision, retry.Wait):
                if decision.otherwise:
                    otherwise = decision.otherwise
                    failover.end()
                continue  # the admission knows now who may go where, and when
            if decision.elsewhere and error.code != "time_limit":
                failover.around(attempt.route.target, decision.backoff)
                continue
            failover.end()
            reason = f"refused alone: {error}" if error.only_for else f"attempt {state.attempts} failed: {error}"
            if error.code == "time_limit":
                raise Snooze(decision.seconds, reason, state.to_header()) from None
            await back_off(state, decision.seconds, reason)
        else:
            return runtime.answered(attempt, answer, state)


def refused(job: Job, state: JobState) -> dict[str, Any]:
    """A message that calls itself a line of a batch, and is none that the feed has handed out: nothing is recorded.

    If the feed has, with another version of this program, it finds the line missing and hands it out again.
    """
    log.warning("a message of workflow %s is refused: it is no line of batch %.80s", job.workflow, job.batch)
    words = "this message is no line of the batch that it names: only the batch's own feed hands out its lines"
    outcome = ended(job, state, "invalid_request", words)
    hooks.ended(outcome)
    line: dict[str, Any] = orjson.loads(outcome.line)
    return line


async def learned(runtime: Runtime, attempt: Attempt, error: ProviderError, renamed: set[str]) -> bool:
    """Keep what a refusal says of its account or model; whether the call is made again for it, free of charge.

    `renamed`: the targets at which this delivery has already used the other name of the ceiling.
    """
    if isinstance(error, AccountBlocked):
        await runtime.refused(attempt, error)
    target = attempt.route.target
    if not error.ceiling_field or target in renamed or attempt.body.get(OTHER[error.ceiling_field]) is None:
        return False
    runtime.ceilings[target] = error.ceiling_field
    renamed.add(target)
    return True


def ended(job: Job, state: JobState, code: str, message: str) -> Outcome:
    """The job's end without an answer, with what it has cost so far."""
    return Outcome.error(job, code, message, cost=state.cost, attempts=state.attempts)


@signals.task_revoked.connect  # type: ignore[untyped-decorator]  # Celery has no types
def end_revoked(sender: Any, request: Any, expired: bool = False, **_: Any) -> None:
    """A job that was revoked, or whose message had expired, has ended: its batch does not wait for it."""
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
