"""The hooks that a job calls while it runs: for Flower's task list, a worker's metrics and traces.

A listener is called at five points of a delivery. It must not fail or wait, and must keep no prompt or answer, only
counts, names and times. Without listeners a hook costs a loop over an empty tuple.
"""

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any

import orjson

from limits.budget import NANO
from limits.reservation import Answer as Admission
from tasks.jobs.attempt import Attempt
from tasks.jobs.job import Job
from tasks.jobs.store import Outcome
from workers import request
from workers.providers.answer import Answer
from workers.providers.errors import ProviderError


@dataclass(slots=True)
class Observed:
    """One delivery of a job, and what is known about it so far. Times are seconds since the epoch.

    `provider` and `model` are those of the last call; tokens and calls are summed over this delivery. `span` and
    `trace` (the trace's id in hex) are set if it is traced.
    """

    job: Job
    task_id: str
    headers: Mapping[str, Any]
    at: float = field(default_factory=time.time)
    provider: str = ""
    model: str = ""
    calls: int = 0
    attempts: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    span: Any = None
    trace: str = ""


class Listener:
    """Does nothing at each hook; a listener overrides those that it needs."""

    def begun(self, delivery: Observed) -> None:
        """A delivery has reached its worker."""

    def admitted(self, delivery: Observed, attempt: Attempt, answer: Admission) -> None:
        """The admission has answered: admitted, denied or impossible."""

    def called(self, delivery: Observed, attempt: Attempt, seconds: float, end: Answer | ProviderError) -> None:
        """A call has ended, with an answer or an error, after `seconds`."""

    def ended(self, delivery: Observed, outcome: Outcome) -> None:
        """The job has ended, and its result is recorded."""

    def left(self, delivery: Observed, error: BaseException | None) -> None:
        """The delivery is over: its job has ended, was snoozed or broke off."""


#: The listeners of this process.
listeners: tuple[Listener, ...] = ()

_current: ContextVar[Observed | None] = ContextVar("delivery", default=None)


def listen(listener: Listener) -> None:
    """Add a listener to this process."""
    global listeners  # noqa: PLW0603 - a process has one set of listeners, as it has one set of metrics
    listeners = (*listeners, listener)


@contextmanager
def delivery(job: Job, task_id: str, headers: Mapping[str, Any]) -> Iterator[Observed]:
    """One delivery of a job, from its arrival to its end or its snooze."""
    here = Observed(job, task_id, headers)
    token = _current.set(here)
    error: BaseException | None = None
    try:
        for listener in listeners:
            listener.begun(here)
        yield here
    except BaseException as exc:
        error = exc
        raise
    finally:
        _current.reset(token)
        for listener in listeners:
            listener.left(here, error)


def admitted(attempt: Attempt, answer: Admission) -> None:
    """Report an admission's answer to the listeners."""
    here = _current.get()
    if here is not None:
        for listener in listeners:
            listener.admitted(here, attempt, answer)


def called(attempt: Attempt, end: Answer | ProviderError) -> None:
    """Count a call's end, and report it to the listeners."""
    here = _current.get()
    if here is None:
        return
    here.calls += 1
    here.attempts = attempt.number
    here.provider, here.model = attempt.route.provider, attempt.route.model
    if isinstance(end, Answer) and end.usage is not None:
        here.input_tokens += end.usage.input
        here.output_tokens += end.usage.output
    if listeners:
        seconds = time.monotonic() - attempt.sent_at
        for listener in listeners:
            listener.called(here, attempt, seconds, end)


def ended(outcome: Outcome) -> None:
    """Report a job's end to the listeners, and add what Flower lists of it to Celery's event."""
    here = _current.get()
    if here is None:
        return
    fields: dict[str, Any] = {
        "provider": here.provider,
        "model": here.model,
        "tokens": here.input_tokens + here.output_tokens,
        "cost_usd": outcome.cost / NANO,
        "attempts": here.attempts,
    }
    if not outcome.ok:
        fields["exception"] = failure(outcome)
    request.add_event_fields(here.task_id, **fields)
    for listener in listeners:
        listener.ended(here, outcome)


def failure(outcome: Outcome) -> str:
    """Why a job failed: its error's code and status. The provider's message may repeat the prompt."""
    line = orjson.loads(outcome.line)
    status = (line["response"] or {}).get("status_code")
    return f"{line['error']['code']} ({status})" if status else str(line["error"]["code"])
