"""One delivery of a job, from its queue to its result: the way that every job takes, on one screen.

    begin ─► admit ─► (wait) ─► call ─► finish            one attempt, the usual case
               ▲  │                └─► settle ─► again    a failure that another attempt may mend
               │  ├─► snooze                              denied for long: back into the queue, no attempt spent
               └──┘                                       the budget is spent: the cheaper model at once

Nothing is acknowledged before it is finished, and nothing is finished twice. An agent's job makes many calls, each
of which takes the same way (tasks/agents/run.py).
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
from tasks.jobs.failover import Detour
from tasks.jobs.job import Job
from tasks.jobs.priced_routes import AFTER_FAILURE
from tasks.jobs.pricing import LookUpFailed
from tasks.jobs.runtime import Revoked, Runtime
from tasks.jobs.state import Memory
from tasks.jobs.stops import Stopped
from tasks.jobs.store import Ending
from tasks.jobs.waitlist import AHEAD, BRIEF, LINED, Standing, line_of
from workers.celery import app
from workers.config.current import current_settings
from workers.embedded import server_url
from workers.models.routing import NoRoute, NotConfigured
from workers.pool.coroutine import CoroutineTask, current_request, worker_stops
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
    memory = Memory.from_header(headers.get(HEADER))
    workflow = workflow_of(queue) or "default"
    job, problem = jobs.received(args, kwargs, task_id=request.id, workflow=workflow, headers=headers)
    problem = problem or runtime.settings.refusal(workflow)
    with hooks.delivery(job, request.id, headers):
        return await deliver(runtime, job, problem, memory)


async def deliver(runtime: Runtime, job: Job, problem: str, memory: Memory) -> dict[str, Any] | None:
    """Run a job that has arrived, whatever its message held; nothing that happens here loses it."""
    try:
        if problem or memory.crashes >= MAX_CRASHES:
            if job.batch and (await runtime.begin(job, memory)).verdict == "refused":
                return refused(job, memory)
            words = problem or f"it passed its time limit, or the worker failed, {memory.crashes} times"
            code = "invalid_request" if problem else "internal_error"
            return await runtime.finish(job, ended(job, memory, code, words), memory)
        return await run(runtime, job, memory)
    except (ServerUnavailable, redis.RedisError):
        raise Snooze(SERVER_AWAY, "the Redis server is away", memory.to_header()) from None
    except (Snooze, asyncio.CancelledError):
        raise
    except SoftTimeLimitExceeded:
        raise Snooze(0.0, "its soft time limit passed while it waited", memory.to_header()) from None
    except Exception as exc:
        # Celery would acknowledge a failed task, and the job would be lost.
        log.exception("job %s failed in the worker's own code", job.id)
        memory.crashes += 1
        if memory.crashes >= MAX_CRASHES:
            ending = ended(job, memory, "internal_error", f"the worker failed {MAX_CRASHES} times: {exc!r}")
            return await runtime.finish(job, ending, memory)
        raise Snooze(AFTER_CRASH, f"worker error: {type(exc).__name__}", memory.to_header()) from None


async def run(runtime: Runtime, job: Job, memory: Memory) -> dict[str, Any] | None:
    """Run the job unless it has ended or runs elsewhere; its result line, None where there is none to return."""
    # Which models an agent is going to ask for, only it knows.
    if not job.line.agent and (shut := gates.closed_for(job.workflow, job.line.model)):
        gates.arrived(job.workflow)
        raise Snooze(shut, f"jobs for {job.line.model} were denied just now", memory.to_header())
    if early := memory.left():
        await asyncio.sleep(early)
    await runtime.starts.turn(memory.owner, job.line.model)
    try:
        return await start(runtime, job, memory)
    finally:
        runtime.starts.over(memory.owner)


async def start(runtime: Runtime, job: Job, memory: Memory) -> dict[str, Any] | None:
    """Run the job if no other delivery of it does, and it has not ended; its result line as above."""
    begun = await runtime.begin(job, memory)
    if job.line.agent or begun.verdict != "run":  # it may never ask for admission
        gates.arrived(job.workflow)
        runtime.starts.over(memory.owner)
    match begun.verdict:
        case "held":
            raise Snooze(begun.wait, "another delivery of this job is running", memory.to_header())
        case "done":
            return begun.answer
        case "stopped" | "stale" | "gone":
            return None
        case "refused":
            return refused(job, memory)
    try:
        async with runtime.leases.held(job, memory.owner):
            return await runners.of_kind(job.line.kind)(runtime, job, memory, attempts)
    except NotConfigured as older:
        await other_configuration(runtime, job, memory, older)
    except Stopped:
        return None  # without a lease the line is ended with the others of its batch


async def call_once(runtime: Runtime, job: Job, memory: Memory, attempts: runners.Attempts) -> dict[str, Any] | None:
    """Run a job that is one call to a model."""
    return await runtime.finish(job, await attempts(runtime, job, memory), memory)


runners.register("call", call_once)


async def admission(
    runtime: Runtime, job: Job, memory: Memory, detour: Detour, otherwise: retry.Fail | None = None
) -> Attempt | Ending:
    """An attempt that is admitted; an Ending where there can be none; Snooze where the job must wait in its queue.

    `otherwise`: how a job ends that was refused already, where no way opens before its deadline. Who is on a detour
    shuts and crowds no gate: what it is denied says nothing of the jobs that may go either way.
    """
    asked, own = job, math.inf  # `own`: seconds until the job's own model may go, once a cheaper one is asked for
    attempt: Attempt | None = None
    heard, may_ask = False, True
    with runtime.places.line() as line:
        while True:
            runtime.stops.check(job)
            if job.deadline and time.time() > job.deadline:
                late = otherwise or retry.Fail("batch_expired", "the batch's deadline passed before this job ran")
                return ended(job, memory, late.code, late.message)
            if not may_ask:
                may_ask = await stand(runtime, line, job, memory, detour)
                continue
            if attempt is None or attempt.stale:
                try:
                    attempt = await prepare(runtime, asked, job, memory, detour)
                except NoRoute as nowhere:
                    if ending := await nowhere_to_go(runtime, job, memory, nowhere, own, otherwise, detour):
                        return ending
                    asked, own, attempt = job, math.inf, None
                    continue
            if not line.name and line.behind(attempt):
                heard = heard or gates.arrived(job.workflow)
                may_ask = await stand(runtime, line, job, memory, detour)
                continue
            answer = await runtime.admit(attempt, for_waitlist=bool(line.name))
            heard = heard or gates.arrived(job.workflow)
            if isinstance(answer, Admitted):
                if otherwise is not None and time.time() + answer.wait >= job.deadline:
                    await runtime.release(attempt)
                    return ended(job, memory, otherwise.code, otherwise.message)
                goes(runtime, asked, attempt, detour, stood=bool(line.name))
                return attempt
            around = detour.left() if attempt.narrowed else None
            match runtime.not_admitted(asked, answer, own=own, otherwise=otherwise, around=around):
                case retry.FallBack() as fallback:
                    asked, own, attempt = job.of_model(fallback.model), fallback.seconds, None
                case retry.Fail() as fail:
                    return ended(job, memory, fail.code, fail.message)
                case retry.Wait() as wait:
                    if isinstance(answer, Denied) and line.stand(attempt, answer):
                        may_ask = await stand(runtime, line, job, memory, detour)
                    else:
                        standing = line_of(attempt, answer.subject)
                        as_planned = await stand_back(runtime, job, memory, answer, wait, standing, detour)
                        attempt = attempt if as_planned else None
                    if asked is not job:
                        asked, own, attempt, may_ask = job, math.inf, None, True


async def prepare(runtime: Runtime, asked: Job, job: Job, memory: Memory, detour: Detour) -> Attempt:
    """What to ask of the admission, as `Runtime.prepare` plans it; Snooze where a price cannot be looked up for now."""
    try:
        return await runtime.prepare(asked, memory, detour.avoid)
    except LookUpFailed as failed:
        if asked is job:
            gates.arrived(job.workflow)
            gates.close(job.workflow, job.line.model, AFTER_FAILURE)
        raise Snooze(AFTER_FAILURE, str(failed), memory.to_header()) from None


async def other_configuration(runtime: Runtime, job: Job, memory: Memory, missing: NotConfigured) -> NoReturn:
    """A batch's line passed the check of its submit, and this worker's overnight.toml lacks what it names: Snooze.

    Another worker may have the file that it was submitted with, so this one leaves the workflow's queue alone a while.
    """
    gates.arrived(job.workflow)
    gates.close(job.workflow, job.line.model, OTHER_CONFIGURATION)
    words = f"a worker with its configuration: on {node()}, {missing} (restart workers whose overnight.toml is older)"
    await runtime.tell(job, words)
    raise Snooze(OTHER_CONFIGURATION, words, memory.to_header()) from None


async def nowhere_to_go(
    runtime: Runtime,
    job: Job,
    memory: Memory,
    nowhere: NoRoute,
    own: float,
    otherwise: retry.Fail | None,
    detour: Detour,
) -> Ending | None:
    """The job's end if no target could ever take it; None once it has waited for its own model; Snooze as above.

    NotConfigured if that is not the line's fault.
    """
    if own == math.inf and job.batch and not job.call and isinstance(nowhere, NotConfigured):
        raise nowhere  # its line was checked when it was submitted
    left = job.deadline - time.time() if job.deadline else None
    follows = retry.never(nowhere, time_left=left, own=own, otherwise=otherwise)
    if isinstance(follows, retry.Fail):
        return ended(job, memory, follows.code, follows.message)
    await stand_back(runtime, job, memory, nowhere, follows, "", detour)
    return None


def goes(runtime: Runtime, asked: Job, attempt: Attempt, detour: Detour, *, stood: bool) -> None:
    """Tell the gates that a job was admitted. `stood`: it had to stand in line for it."""
    ahead = attempt.wait > AHEAD
    if ahead and not detour.avoid:
        wanted = partial(runtime.places.wanted, line_of(attempt, attempt.route.buckets[0][0]))
        gates.limit(asked.workflow, asked.line.model, wanted)
    gates.admitted(asked.workflow, asked.line.model, waited=ahead or stood)


async def stand(runtime: Runtime, line: Standing, job: Job, memory: Memory, detour: Detour) -> bool:
    """Wait in line for a turn to ask, or for a while; whether it came. Snooze where there is none to wait for."""
    runtime.starts.over(memory.owner)
    if not detour.avoid:
        gates.limit(job.workflow, job.line.model, partial(runtime.places.wanted, line.name))
    may_ask = await line.turn()
    if worker_stops():
        raise Snooze(0.0, "the worker stops", memory.to_header())
    if shut := gates.closed_for(job.workflow, job.line.model):
        raise Snooze(shut, f"jobs for {job.line.model} were denied just now", memory.to_header())
    return may_ask


async def stand_back(
    runtime: Runtime,
    job: Job,
    memory: Memory,
    answer: Denied | Impossible | NoRoute,
    wait: retry.Wait,
    line: str,
    detour: Detour,
) -> bool:
    """Wait here where it is short; Snooze where the job must wait in its queue, as those of its `line` do.

    Returns whether the attempt is to ask again as it was planned: not where the detour has ended.
    """
    runtime.starts.over(memory.owner)
    if detour.avoid and wait.seconds >= detour.left():
        await back_off(memory, detour.left(), wait.reason)
        detour.end()
        return False
    if wait.seconds <= SHORT_WAIT:
        await asyncio.sleep(wait.seconds)
        return True
    seconds = wait.seconds
    if isinstance(answer, Denied) and answer.reason == "pause":
        seconds = min(seconds, LIFTED * (0.75 + 0.5 * random.random()))  # somebody may lift it
    crowded = isinstance(answer, Denied) and answer.reason == "concurrency"
    if isinstance(answer, Denied) and answer.reason not in PACED and not detour.avoid:
        opens = seconds if answer.opens_in is None else min(seconds, answer.opens_in)
        least = BRIEF if answer.reason == "pause" else LONG
        if crowded or (answer.reason in LINED and opens <= least):
            gates.limit(job.workflow, job.line.model, partial(runtime.places.wanted, line))
        else:
            gates.close(job.workflow, job.line.model, opens, least, blocked=answer.reason == "latch")
    # Once its gate is ajar, whoever is let through may ask: the hints only keep jobs from coming all at once.
    exact = not (isinstance(answer, Denied) and answer.reason in LINED)
    raise Snooze(memory.waits(seconds, exact=exact), wait.reason, memory.to_header())


async def back_off(memory: Memory, seconds: float, reason: str) -> None:
    """Let the time between two attempts pass: here where it is short, else in the queue, by a Snooze."""
    if seconds > MAX_WAIT:
        raise Snooze(seconds, reason, memory.to_header()) from None
    await asyncio.sleep(seconds)


async def attempts(runtime: Runtime, job: Job, memory: Memory) -> Ending:
    """Call until there is an answer or a final failure; Snooze where the job must wait in its queue."""
    detour = Detour()
    otherwise: retry.Fail | None = None
    renamed: set[str] = set()
    while True:
        attempt = await admission(runtime, job, memory, detour, otherwise)
        if isinstance(attempt, Ending):
            return attempt
        try:
            await runtime.depart(attempt, memory)
            answer = await runtime.call(attempt, memory)
        except Revoked:
            continue
        except ProviderError as error:
            if await learned(runtime, attempt, error, renamed):
                memory.cost += await runtime.settle_failure(attempt, error, memory)
                continue
            memory.failed(error)
            routes = runtime.routes.find(attempt.job.line.model, attempt.job.line.url)
            decision = retry.decide(
                error,
                attempts=memory.attempts,
                max_attempts=memory.most_attempts(runtime.max_attempts(job)),
                throttles=memory.throttles,
                alone=memory.alone,
                # Where a way is shut until the deadline, those that have failed are tried again.
                others=otherwise is None and detour.others(attempt.route.target, routes),
                way_around=attempt.way_around(error, routes),
                time_left=job.deadline - time.time() if job.deadline else None,
            )
            if isinstance(decision, retry.Fail):
                return await runtime.failed(attempt, error, decision, memory)
            memory.cost += await runtime.settle_failure(attempt, error, memory)
            if isinstance(decision, retry.Wait):
                if decision.otherwise:
                    otherwise = decision.otherwise
                    detour.end()
                continue  # the admission knows now who may go where, and when
            if decision.elsewhere and error.code != "time_limit":
                detour.around(attempt.route.target, decision.backoff)
                continue
            detour.end()
            reason = f"refused alone: {error}" if error.only_for else f"attempt {memory.attempts} failed: {error}"
            if error.code == "time_limit":
                raise Snooze(decision.seconds, reason, memory.to_header()) from None
            await back_off(memory, decision.seconds, reason)
        else:
            return runtime.answered(attempt, answer, memory)


def refused(job: Job, memory: Memory) -> dict[str, Any]:
    """A message that calls itself a line of a batch, and is none that the feed has handed out: nothing is recorded.

    If the feed has, with another version of this program, it finds the line missing and hands it out again.
    """
    log.warning("a message of workflow %s is refused: it is no line of batch %.80s", job.workflow, job.batch)
    words = "this message is no line of the batch that it names: only the batch's own feed hands out its lines"
    ending = ended(job, memory, "invalid_request", words)
    hooks.ended(ending)
    line: dict[str, Any] = orjson.loads(ending.line)
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


def ended(job: Job, memory: Memory, code: str, message: str) -> Ending:
    """The job's end without an answer, with what it has cost so far."""
    return Ending.error(job, code, message, cost=memory.cost, attempts=memory.attempts)


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
    memory = Memory.from_header((request.headers or {}).get(HEADER))
    code, words = ("expired", "its message had expired") if expired else ("revoked", "it was revoked")
    ending = replace(ended(job, memory, code, words), counted=memory.counted_cost)
    settings = current_settings()
    server = Server(open_client(server_url(settings)))
    server.run(store.finish(Keys(settings.namespace), job, ending))
