"""One delivery of a job, as Celery's worker sees it: private in logs and events, put back without loss.

A job that must wait raises `Snooze`. To Celery it is a retry (its event, its state, its signal), but what
happens to the message is ours: the same message goes back to its queue with an ETA, and only then is this
delivery acknowledged. `Task.retry` does it the other way round in its failures: where publishing fails, it
rejects the message without putting it back, which loses the job.
"""

import logging
from datetime import UTC, datetime, timedelta
from typing import Any

from celery.app.task import X_DEATH_HEADERS
from celery.exceptions import Retry
from celery.worker.request import Request
from celery.worker.state import task_ready

from workers.transport import rabbitmq
from workers.transport.queues import queue_name, workflow_of

log = logging.getLogger(__name__)

#: The message header that carries what a job must remember from one delivery to the next.
HEADER = "overnight"

#: What a message's headers may tell Celery of a delivery, and what its request adds; all others are the producer's own.
_CELERYS_HEADERS = frozenset(
    {
        *("task", "id", "lang", "root_id", "parent_id", "group", "group_index", "origin", "argsrepr", "kwargsrepr"),
        *("eta", "expires", "retries", "timelimit", "ignore_result", "properties", "reply_to", "correlation_id"),
        *("hostname", "delivery_info", "args", "kwargs"),
    }
)

#: Seconds until a job runs again that passed its hard time limit.
TIMEOUT_SNOOZE = 15.0

#: What jobs have told of themselves, by task id, until their last event takes it along. A job tells it right before
#: it returns, so few are here at a time; those whose worker broke off in between are forgotten together.
_event_fields: dict[str, dict[str, Any]] = {}
_MAX_EVENT_FIELDS = 10_000


def add_event_fields(task_id: str, **fields: Any) -> None:
    """Give fields to the event that ends this delivery: what Flower lists of a job. Nothing private.

    It reaches the event on pools within the worker's process; from prefork's children it does not.
    """
    if len(_event_fields) >= _MAX_EVENT_FIELDS:
        _event_fields.clear()
    _event_fields[task_id] = fields


class Snooze(Retry):  # type: ignore[misc]  # Celery has no types
    """The job waits `seconds` in its queue and is delivered again; no attempt is spent by that alone.

    `memory` is what the next delivery finds in its `overnight` header: JSON, small, and nothing private.
    """

    def __init__(self, seconds: float, reason: str, memory: dict[str, Any] | None = None) -> None:
        self.seconds = max(0.0, seconds)
        self.reason = reason
        self.state = memory or {}
        when = datetime.now(UTC) + timedelta(seconds=self.seconds)
        super().__init__(message=reason, exc=None, when=when)

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.seconds, self.reason, self.state)

    def __str__(self) -> str:
        return f"waits {self.seconds:.1f} s: {self.reason}"


class JobRequest(Request):  # type: ignore[misc]  # Celery has no types
    """A delivery whose arguments (a prompt) appear in no log line and no event."""

    def __init__(self, message: Any, *args: Any, **options: Any) -> None:
        super().__init__(message, *args, **options)
        #: The workflow whose queue it came from.
        self.workflow: str | None = workflow_of((self.delivery_info or {}).get("routing_key") or "")
        found = self.request_dict
        own = {name: found.pop(name) for name in list(found) if name not in _CELERYS_HEADERS}
        found["headers"] = own

    @property
    def argsrepr(self) -> str:
        """Never the arguments: Celery sends this with the `task-received` event."""
        return "()"

    @property
    def kwargsrepr(self) -> str:
        """Which job it is, and nothing of what is in it."""
        kwargs = self.kwargs if isinstance(self.kwargs, dict) else {}
        named = {key: kwargs[key] for key in ("batch", "line", "round") if key in kwargs}
        shown = {key: value for key, value in named.items() if isinstance(value, str | int)}
        return repr({"workflow": self.workflow, **shown})

    def info(self, safe: bool = False) -> dict[str, Any]:
        """What `celery inspect active` and Flower's page of a worker show: as events do, no arguments."""
        del safe
        shown: dict[str, Any] = super().info(safe=True)
        return {**shown, "args": self.argsrepr, "kwargs": self.kwargsrepr}

    def send_event(self, type: str, **fields: Any) -> None:  # noqa: A002 - Celery's name
        """An event, with the job's workflow and what the job has told of itself.

        To Celery a job that was given up has succeeded: it has a result, which says so. To whoever watches it failed.
        """
        told = _event_fields.pop(self.id, {}) if type != "task-started" else {}
        if type == "task-succeeded" and "exception" in told:
            type = "task-failed"  # noqa: A001 - Celery's name
            fields = {"runtime": fields.get("runtime"), "traceback": ""}
        super().send_event(type, **{"workflow": self.workflow, **told, **fields})

    @property
    def body(self) -> Any:
        """The arguments as they were read when the message came; a tracer need not read them again."""
        return self._Request__payload  # Celery's own property of it takes a lock

    @property
    def content_type(self) -> None:
        """None says to the tracer that `body` has been read."""
        return

    def on_retry(self, exc_info: Any) -> None:
        """Put the message back with an ETA, and only then let go of this delivery."""
        exc = exc_info.exception
        exc = getattr(exc, "exc", exc) if not isinstance(exc, Retry) else exc
        if not isinstance(exc, Snooze):
            super().on_retry(exc_info)
            return
        self._put_back_or_keep(exc)

    def on_timeout(self, soft: bool, timeout: float) -> None:
        """Put a job that passed its hard time limit back; what it remembers bounds how often (tasks/jobs/run.py)."""
        if soft:
            super().on_timeout(soft, timeout)
            return
        log.error("the hard time limit of job %s passed (%g s)", self.id, timeout)
        task_ready(self)
        remembered = self.request_dict["headers"].get(HEADER)
        memory = dict(remembered) if isinstance(remembered, dict) else {}
        crashes = memory.get("crashes")
        memory["crashes"] = (crashes if isinstance(crashes, int) else 0) + 1
        self._put_back_or_keep(Snooze(TIMEOUT_SNOOZE, f"its hard time limit passed ({timeout:g} s)", memory))

    def _put_back_or_keep(self, snooze: Snooze) -> None:
        try:
            self._put_back(snooze)
        except Exception:
            # The broker is away or refuses: this delivery stays the only copy, so it must not be acknowledged.
            log.exception("job %s could not be put back with its wait; it is requeued as it was", self.id)
            self.reject(requeue=True)
            return
        self.send_event("task-retried", exception=str(snooze), traceback="")

    def _put_back(self, snooze: Snooze) -> None:
        channel = getattr(self.message.channel, "snooze", None)
        if channel is None:
            self._publish_copy(snooze)
            self.acknowledge()
            return
        # Our own transport moves the message in the server, and goes on trying for as long as the server is away.
        channel(self.message.delivery_tag, snooze.seconds, {HEADER: snooze.state})
        self.acknowledged = True

    def _publish_copy(self, snooze: Snooze) -> None:
        """For brokers that cannot move a message: publish its copy, which the caller then acknowledges.

        Raises where the broker does not confirm it; then this delivery stays the only one.
        """
        message = self.message
        queue = queue_name(workflow_of((message.delivery_info or {}).get("routing_key") or "") or "default")
        properties = {
            key: value
            for key, value in (message.properties or {}).items()
            if key in {"priority", "correlation_id", "reply_to", "delivery_mode"} and value is not None
        }
        # RabbitMQ notes there through which of its delaying queues a message has come, and holds one back that comes
        # through the same again.
        headers = {name: value for name, value in message.headers.items() if name not in X_DEATH_HEADERS}
        with self._app.producer_or_acquire() as producer:
            producer.publish(
                message.body,
                content_type=message.content_type,
                content_encoding=message.content_encoding,
                headers={**headers, HEADER: snooze.state},
                mandatory=True,
                retry=True,
                retry_policy={"max_retries": 3, "interval_start": 0, "interval_step": 0.2},
                **rabbitmq.delayed(queue, snooze.seconds),
                **properties,
            )
