"""The outcome of an agent's job: its result line, with the cost of all its calls."""

import time
from typing import Any

import orjson

from limits.budget import NANO
from tasks.agents.run import Run
from tasks.jobs import job as jobs
from tasks.jobs.store import Outcome
from workers.figures import dollars


def answered(run: Run, body: bytes) -> Outcome:
    """A success; `body` is what the agent returned, as JSON."""
    return _line(run, {"status_code": 200, "request_id": None, "body": orjson.Fragment(body)}, None)


def failed(run: Run, code: str, message: str) -> Outcome:
    """A failure."""
    calls = f"{run.calls} call{'' if run.calls == 1 else 's'}"
    return _line(run, None, jobs.error_object(code, f"{message} (after {calls}, {dollars(run.cost)})"))


def _line(run: Run, response: dict[str, Any] | None, error: dict[str, Any] | None) -> Outcome:
    record, job = run.journal.record, run.job
    report = {
        "provider": None,
        "model": None,
        "attempts": 1,
        "cost_usd": run.cost / NANO,
        "seconds": round(time.time() - record.began, 3),
        "calls": run.calls,
    }
    line = jobs.result_line(job.result_id, job.line.custom_id, response=response, error=error, report=report)
    return Outcome(ok=error is None, line=jobs.encode(line), cost=run.cost, counted=record.cost)
