"""Agents' jobs that are delivered more than once."""

from dataclasses import replace

from tasks.jobs.job import Job
from tasks.jobs.proof import proof
from tests.simulator import Simulator
from tests.support.delivery import Desk
from tests.support.site import Line
from tests.support.toml import AGENTS, PRICES, provider

#: A 429 that asks for a longer wait than a worker waits.
LONG = {"mode": "429", "retry_after": "60", "times": 1}


def agents_at(simulator: Simulator, workflows: str = "[workflows.nightly]\n") -> str:
    """A configuration of the tests' agents over one provider."""
    return AGENTS + provider(simulator.base_url, more="timeout = 10.0", models={"small": PRICES}) + workflows


async def after_the_wait(desk: Desk, job: Job) -> Line:
    """The result of a job that had to wait once, when the wait is over."""
    first = await desk.deliver_job(job)
    assert first.snooze is not None
    assert first.snooze.seconds > 30
    await desk.end_pause()
    second = await desk.deliver_job(job, first.state)
    assert second.line is not None
    return second.line


def billed_calls(simulator: Simulator) -> list[str]:
    """The calls that the provider has billed, in order: those that were broken off included."""
    return [entry["job"] for entry in simulator.journal() if entry["cost_nusd"]]


def in_batch(desk: Desk, job: Job, **fields: str) -> Job:
    """The job as line 1 of a batch that has these fields."""
    record = {"status": "in_progress", "round": "0", "workflow": job.workflow, "token": "t", "bytes": "1000", **fields}
    desk.client.hset(desk.keys.batch("batch_a"), mapping=record)
    round_ = int(record["round"])
    return replace(job, batch="batch_a", number=1, round=round_, proof=proof("t", 1, round_))
