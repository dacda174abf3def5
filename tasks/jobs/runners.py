"""Which function runs a job, by the kind of its line: other packages register the runner of their own kind.

A job whose line names a model is run by tasks/jobs/run.py; tasks/agents registers the runner of agents.
"""

from collections.abc import Awaitable, Callable
from typing import Any

from tasks.jobs.delivery import Delivery
from tasks.jobs.store import Outcome

Attempts = Callable[[Delivery], Awaitable[Outcome]]
"""Makes one call, retries included (tasks.jobs.run.attempts)."""

Runner = Callable[[Delivery, Attempts], Awaitable[dict[str, Any] | None]]
"""Runs a job that has a lease, and returns what `Delivery.finish` returns."""

_runners: dict[str, Runner] = {}


def register(kind: str, runner: Runner) -> None:
    """Let `runner` run the jobs whose `Line.kind` is `kind`."""
    _runners[kind] = runner


def of_kind(kind: str) -> Runner:
    """The registered runner; KeyError if the module that registers it isn't imported."""
    return _runners[kind]
