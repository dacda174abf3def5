"""One delivery of a job, as Celery's worker sees it: private in logs and events, put back without loss.

A job that must wait raises `Snooze`. Celery sees a retry (its event, its state, its signal), but the message is handled
here: the same message goes back to its queue with an ETA, and only then is this delivery acknowledged. `Task.retry`
loses the job if publishing fails: it rejects the message without putting it back.
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

#: The message header with a job's state from one delivery to the next.
HEADER = "overnight"

#: Headers that Celery reads, and fields that its request adds. All others belong to the producer.
_CELERYS_HEADERS = frozenset(
    {
        *("task", "id", "lang", "root_id", "parent_id", "group", "group_index", "origin", "argsrepr", "kwargsrepr"),
        *("eta", "expires", "retries", "timelimit", "ignore_result", "properties", "reply_to", "correlation_id"),
        *("hostname", "delivery_info", "args", "kwargs"),
    }
)

#: Seconds until a job that passed its hard time limit runs again.
TIMEOUT_SNOOZE = 15.0

#: Fields for the last event of each delivery, by task id. A job sets them right before it returns, so there are few.
_event_fields: dict[str, dict[str, Any]] = {}

#: Entries at which all are dropped: those of deliveries that were cut off are never used.
_MAX_EVENT_FIELDS = 10_000


def add_event_fields(task_id: str, **fields: Any) -> None:
    """Add fields to the event that ends this delivery, for Flower's list of jobs. They must not be private.

    This works on pools inside the worker's process, not from prefork's children.
    """
    if len(_event_fields) >= _MAX_EVENT_FIELDS:
        _event_fields.clear()
    _event_fields[task_id] = fields


class Snooze(Retry):  # type: ignore[misc]  # Celery has no types
    """The job waits `seconds` in its queue and is delivered again. This spends no attempt.

    The next delivery finds `state` in its `overnight` header: small JSON, nothing private.
    """

    def __init__(self, seconds: float, reason: str, state: dict[str, Any] | None = None) -> None:
        self.seconds = max(0.0, seconds)
        self.reason = reason
        self.state = state or {}
        when = datetime.now(UTC) + timedelta(seconds=self.seconds)
        super().__init__(message=reason, exc=None, when=when)

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.seconds, self.reason, self.state)

    def __str__(self) -> str:
        return f"waits {self.seconds:.1f} s: {self.reason}"


class JobRequest(Request):  # type: ignore[misc]  # Celery has no types
    """A delivery whose arguments (a prompt) never appear in a log line or event."""

    def __init__(self, message: Any, *args: Any, **options: Any) -> None:
        super().__init__(message, *args, **options)
        #: The workflow of the queue that it came from.
        self.workflow: str | None = workflow_of((self.delivery_info or {}).get("routing_key") or "")
        found = self.request_dict
        own = {name: found.pop(name) for name in list(found) if name not in _CELERYS_HEADERS}
        found["headers"] = own

    @property
    def argsrepr(self) -> str:
        """Empty instead of the arguments: Celery sends this with the `task-received` event."""
        return "()"

    @property
    def kwargsrepr(self) -> str:
        """What identifies the job, without its contents."""
        kwargs = self.kwargs if isinstance(self.kwargs, dict) else {}
        named = {key: kwargs[key] for key in ("batch", "line", "round") if key in kwargs}
        shown = {key: value for key, value in named.items() if isinstance(value, str | int)}
        return repr({"workflow": self.workflow, **shown})

    def info(self, safe: bool = False) -> dict[str, Any]:
        """What `celery inspect active` and Flower's worker page show: no arguments, as in events."""
        del safe
        shown: dict[str, Any] = super().info(safe=True)
        return {**shown, "args": self.argsrepr, "kwargs": self.kwargsrepr}

    def send_event(self, type: str, **fields: Any) -> None:  # noqa: A002 - Celery's name
        """Send an event with the job's workflow and the fields that the job has set.

        A failed job has a result that says so, so to Celery it succeeded. In events it failed.
        """
        added = _event_fields.pop(self.id, {}) if type != "task-started" else {}
        if type == "task-succeeded" and "exception" in added:
            type = "task-failed"  # noqa: A001 - Celery's name
            fields = {"runtime": fields.get("runtime"), "traceback": ""}
        super().send_event(type, **{"workflow": self.workflow, **added, **fields})

    @property
    def body(self) -> Any:
        """The arguments as parsed when the message arrived, so that the tracer doesn't parse them again."""
        return self._Request__payload  # Celery's own property takes a lock

    @property
    def content_type(self) -> None:
        """None: `body` is already parsed."""
        return

    def on_retry(self, exc_info: Any) -> None:
        """Put the message back with an ETA, and only then acknowledge this delivery."""
        exc = exc_info.exception
        exc = getattr(exc, "exc", exc) if not isinstance(exc, Retry) else exc
        if not isinstance(exc, Snooze):
            super().on_retry(exc_info)
            return
        self._put_back_or_keep(exc)

    def on_timeout(self, soft: bool, timeout: float) -> None:
        """Snooze a job that passed its hard time limit. Its state limits how often (tasks/jobs/messages.py)."""
        if soft:
            super().on_timeout(soft, timeout)
            return
        log.error("the hard time limit of job %s passed (%g s)", self.id, timeout)
        task_ready(self)
        remembered = self.request_dict["headers"].get(HEADER)
        state = dict(remembered) if isinstance(remembered, dict) else {}
        crashes = state.get("crashes")
        state["crashes"] = (crashes if isinstance(crashes, int) else 0) + 1
        self._put_back_or_keep(Snooze(TIMEOUT_SNOOZE, f"its hard time limit passed ({timeout:g} s)", state))

    def _put_back_or_keep(self, snooze: Snooze) -> None:
        try:
            self._put_back(snooze)
        except Exception:
            # The broker is unreachable or refuses. This delivery is the only copy and must not be acknowledged.
            log.exception("cannot snooze job %s; requeueing it unchanged", self.id)
            self.reject(requeue=True)
            return
        self.send_event("task-retried", exception=str(snooze), traceback="")

    def _put_back(self, snooze: Snooze) -> None:
        channel = getattr(self.message.channel, "snooze", None)
        if channel is None:
            self._publish_copy(snooze)
            self.acknowledge()
            return
        # Our transport moves the message inside the server, and retries while the server is unreachable.
        channel(self.message.delivery_tag, snooze.seconds, {HEADER: snooze.state})
        self.acknowledged = True

    def _publish_copy(self, snooze: Snooze) -> None:
        """Publish a copy of the message, for brokers that cannot move one. The caller then acknowledges this delivery.

        Raises if the broker does not confirm the copy; then this delivery stays the only one.
        """
        message = self.message
        queue = queue_name(workflow_of((message.delivery_info or {}).get("routing_key") or "") or "default")
        properties = {
            key: value
            for key, value in (message.properties or {}).items()
            if key in {"priority", "correlation_id", "reply_to", "delivery_mode"} and value is not None
        }
        # RabbitMQ records there the delay queues that a message came through, and drops it if it comes through one
        # again.
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
