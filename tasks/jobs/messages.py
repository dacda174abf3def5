"""Jobs as messages: the Celery task that runs each, what a crash does to one, and how a revoked one ends.

Whatever happens, a message is acknowledged only after its job has ended or was snoozed. If the worker dies before
that, the message is restored and the next delivery runs the job (workers/transport/in_flight.py). The call that was cut
off is presumed spent when its reservation's lease ends (leases.py).
"""

import asyncio
import logging
from typing import Any, Final, cast

import redis
from celery import signals
from celery.exceptions import SoftTimeLimitExceeded

from limits.client.connection import Server, open_client
from limits.errors import ServerUnavailable
from limits.keys import Keys
from tasks.jobs import hooks, kept, retry, store
from tasks.jobs import job as jobs
from tasks.jobs.delivery import Delivery
from tasks.jobs.run import run
from tasks.jobs.runtime import Runtime
from tasks.jobs.state import JobState
from tasks.jobs.store import Outcome
from workers.celery import app
from workers.config.current import current_settings
from workers.embedded import server_url
from workers.pool.coroutine import CoroutineTask, current_request
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
    workflow = workflow_of(queue) or "default"
    job, problem = jobs.received(args, kwargs, task_id=request.id, workflow=workflow, headers=headers)
    delivery = Delivery(runtime, job, JobState.from_header(headers.get(HEADER)))
    with hooks.delivery(job, request.id, headers):
        return await deliver(delivery, problem or runtime.settings.refusal(workflow))


async def deliver(delivery: Delivery, problem: str) -> dict[str, Any] | None:
    """Run a job that has arrived. Whatever happens, the job either ends or is snoozed; it is never lost."""
    state = delivery.state
    try:
        if problem or state.crashes >= MAX_CRASHES:
            return await _end_unrun(delivery, problem)
        return await run(delivery)
    except (ServerUnavailable, redis.RedisError):
        raise delivery.snooze(SERVER_AWAY, "the Redis server is away") from None
    except (Snooze, asyncio.CancelledError):
        raise
    except SoftTimeLimitExceeded:
        raise delivery.snooze(0.0, "its soft time limit passed while it waited") from None
    except Exception as exc:
        # Celery would acknowledge a failed task, and the job would be lost.
        log.exception("job %s failed in the worker's own code", delivery.job.id)
        state.crashes += 1
        if state.crashes < MAX_CRASHES:
            raise delivery.snooze(AFTER_CRASH, f"worker error: {type(exc).__name__}") from None
        return await _end(delivery, "internal_error", f"the worker failed {MAX_CRASHES} times: {exc!r}")


async def _end_unrun(delivery: Delivery, problem: str) -> dict[str, Any] | None:
    """End a job that is invalid or has crashed too often."""
    if delivery.job.batch and (await delivery.begin()).verdict == "refused":
        return delivery.refused()
    if problem:
        return await _end(delivery, "invalid_request", problem)
    words = f"it passed its time limit, or the worker failed, {delivery.state.crashes} times"
    return await _end(delivery, "internal_error", words)


async def _end(delivery: Delivery, code: str, words: str) -> dict[str, Any] | None:
    return await delivery.finish(delivery.ended(retry.Fail(code, words)))


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
    outcome = Outcome.error(job, code, words, cost=state.cost, attempts=state.attempts, counted=state.counted_cost)
    settings = current_settings()
    server = Server(open_client(server_url(settings)))
    keys = Keys(settings.namespace)
    place = (keys.kept(job.batch), str(job.number)) if job.batch else (keys.job(job.id), "kept")
    answer = cast("bytes | None", server.client.hget(*place))
    server.run(store.finish(keys, job, kept.instead_of(outcome, answer, job.round)))
