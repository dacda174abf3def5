"""Ends the line of a message that was set aside, with an error, so that its batch doesn't wait for it."""

from typing import Any

import orjson

from tasks.batches.store import open_store
from tasks.jobs import job as jobs
from tasks.jobs import proof
from tasks.jobs.kept import instead_of
from tasks.jobs.state import JobState
from tasks.jobs.store import Outcome
from workers import consumer
from workers.config.current import current_settings
from workers.request import HEADER
from workers.transport.envelope import JOB
from workers.transport.queues import workflow_of


def end(message: Any, reason: str) -> None:
    """End the line in `message`, if it is a line of a batch."""
    headers = message.headers
    if headers.get("task") != JOB or not headers.get(proof.HEADER):
        return
    try:
        body = orjson.loads(message.body)
    except ValueError:
        return
    match body:
        case [args, dict() as kwargs, _]:
            workflow = workflow_of((message.delivery_info or {}).get("routing_key") or "") or "default"
            job, _problem = jobs.received(args, kwargs, task_id="", workflow=workflow, headers=headers)
            if job.batch is not None:
                state = JobState.from_header(headers.get(HEADER))
                words = f"its message was set aside, see `overnight dead`: {reason}"
                store = open_store(current_settings())
                answer = store.kept(job.batch, [job.number]).get(job.number)
                outcome = Outcome.error(
                    job, "set_aside", words, cost=state.cost, attempts=state.attempts, counted=state.counted_cost
                )
                store.finish_many([(job, instead_of(outcome, answer, job.round))])


consumer.on_dead_letter.append(end)
