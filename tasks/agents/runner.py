"""One delivery of an agent's job: replayed from its journal, run on, and ended or put back into its queue.

open the journal ─► run the coroutine ─► it returns or raises ─► result line
│  each call and step: found in the journal, else made and written there
└► Suspended: calls in flight finish and are written ─► back into the queue
"""

import asyncio
import logging
from typing import Any

from celery.exceptions import SoftTimeLimitExceeded

from tasks.agents import registry
from tasks.agents.errors import Crash, Halted, Stop, Superseded, Suspended
from tasks.agents.journal import Journal
from tasks.agents.json_values import Unwritable, encode, error_text
from tasks.agents.llm import Llm
from tasks.agents.outcome import answered, failed
from tasks.agents.run import Run
from tasks.agents.stored_bodies import RETRY_AFTER
from tasks.jobs import runners
from tasks.jobs.delivery import Delivery
from tasks.jobs.runners import Attempts
from tasks.jobs.storage import StorageError
from tasks.jobs.store import Outcome
from workers.models.routing import NoRoute, NotConfigured

log = logging.getLogger(__name__)


async def run(delivery: Delivery, attempts: Attempts) -> dict[str, Any] | None:
    """Run an agent's job to its end and return what `Delivery.finish` returns; Snooze if it must wait in its queue.

    NotConfigured if a batch's line names an agent that this worker doesn't have.
    """
    runtime, job = delivery.runtime, delivery.job
    try:
        agent = registry.find(runtime.settings, job.line.agent, job.workflow)
    except NoRoute as exc:
        if job.batch and isinstance(exc, NotConfigured):
            raise
        return await delivery.finish(Outcome.error(job, "invalid_request", str(exc)))
    journal = await Journal.open(runtime.server, runtime.keys, job, delivery.state.owner, runtime.settings.storage)
    outcome = await _to_end(Run(delivery, journal, attempts), agent.function)
    line = await delivery.finish(outcome)
    if outcome.ok or job.batch is None:  # a failed job of a batch may run again in another round, from this journal
        await journal.close()
    return line


runners.register("agent", run)


async def _to_end(run: Run, function: registry.AgentFunction) -> Outcome:
    """Run the coroutine; the job's outcome, or Snooze."""
    try:
        await run.journal.load()
    except StorageError as exc:
        run.halt(Suspended(RETRY_AFTER, f"its journal waits for the storage: {exc}"))
    except Halted as halted:
        run.halt(halted)
    if run.stop is not None:
        return await _stopped(run, run.stop)
    loop = asyncio.get_running_loop()
    main = loop.create_task(_main(run, function))
    timer = None
    if run.workflow.max_seconds is not None:
        timer = loop.call_later(run.seconds_left(), _time_is_up, run, main)
    try:
        await _wait_for(run, main)
    finally:
        run.over = True
        if timer is not None:
            timer.cancel()
    return await _outcome(run, main)


async def _wait_for(run: Run, main: "asyncio.Task[bytes]") -> None:
    """Wait until the coroutine and all its calls have ended; cancel them if this task is cancelled."""
    try:
        try:
            await asyncio.wait((main,))
        except SoftTimeLimitExceeded:
            # The journal keeps what is done, so the next delivery gets further.
            run.halt(Suspended(0.0, "its soft time limit passed"))
            main.cancel()
        while run.flights or not main.done():
            await asyncio.wait((main, *run.flights))
    except BaseException:
        # The worker stops, or the job was revoked: leave nothing running.
        run.abandoned = True
        tasks = (main, *run.flights)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        raise


async def _main(run: Run, function: registry.AgentFunction) -> bytes:
    run.root.enter()
    try:
        result = await function(run.job.line.body, Llm(run))
    except (SystemExit, KeyboardInterrupt) as exc:
        # In a task these would end the worker's loop.
        raise RuntimeError(f"the agent raised {type(exc).__name__}") from exc
    return encode(result)


def _time_is_up(run: Run, main: "asyncio.Task[bytes]") -> None:
    run.halt(run.out_of_time())
    main.cancel()


async def _outcome(run: Run, main: "asyncio.Task[bytes]") -> Outcome:
    error = None if main.cancelled() else main.exception()
    if run.stop is not None:
        return await _stopped(run, run.stop)
    if main.cancelled():
        return failed(run, "agent_error", "the agent was cancelled by its own code")
    if isinstance(error, Unwritable):
        return failed(run, "agent_error", f"the agent returned what JSON cannot hold: {error}")
    if error is not None:
        log.warning("job %s: its agent raised %s", run.job.id, type(error).__name__)
        return failed(run, "agent_error", error_text(error))
    return answered(run, main.result())


async def _stopped(run: Run, stop: Stop) -> Outcome:
    match stop:
        case Superseded():
            raise run.delivery.snooze(run.runtime.lease, "another delivery of this job is running")
        case Crash() as crash:
            raise crash.error
        case Suspended() as wait:
            headers = {position: each.to_header() for position, each in run.states.items()}
            await run.journal.snooze(wait.seconds, wait.reason, headers)
            raise run.delivery.snooze(wait.seconds, wait.reason)
        case Halted() as halted:
            return failed(run, halted.code, halted.message)
    raise stop
