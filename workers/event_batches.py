"""Sends task events a few times a second, many in one message.

Celery's worker publishes its events at each turn of its hub and waits for the broker each time. With three events for
each job and hundreds of jobs a second, that costs more than the jobs.
"""

from typing import Any, Final

import orjson
from celery import bootsteps
from celery.worker.consumer.events import Events
from kombu import serialization

#: Seconds between two messages of events.
EVERY: Final = 0.2

#: Events in one message at most.
MAX_EVENTS: Final = 1000

#: The serializer of these messages: plain JSON, written by orjson.
SERIALIZER: Final = "overnight-events"


def _dumps(events: Any) -> str:
    """Write events as JSON. kombu writes what orjson cannot: a user's task may put anything into an event."""
    try:
        return orjson.dumps(events).decode()
    except TypeError:
        return str(serialization.dumps(events, serializer="json")[2])


serialization.registry.register(SERIALIZER, _dumps, None, "application/json", "utf-8")
serialization.registry.type_to_name["application/json"] = "json"  # readers see plain JSON


class EventBatches(bootsteps.StartStopStep):  # type: ignore[misc]  # Celery has no types
    """The consumer's step that replaces Celery's flush at every turn with one every `EVERY` seconds."""

    requires = (Events,)

    def __init__(self, consumer: Any, **options: Any) -> None:
        super().__init__(consumer, **options)
        self.is_due = False

    def start(self, consumer: Any) -> None:
        """Set up the event dispatcher, which is a new one after each lost connection."""
        dispatcher = consumer.event_dispatcher
        if consumer.hub is None or dispatcher is None:
            return
        self.is_due = False

        def schedule_flush() -> None:
            if not self.is_due:
                self.is_due = True
                consumer.timer.call_after(EVERY, self.flush, (consumer,))

        dispatcher.buffer_limit = MAX_EVENTS
        if dispatcher.serializer == "json":
            dispatcher.serializer = SERIALIZER
        dispatcher.on_send_buffered = schedule_flush

    def flush(self, consumer: Any) -> None:
        """Publish the events gathered so far."""
        self.is_due = False
        if consumer.event_dispatcher is not None:
            consumer.event_dispatcher.flush()

    def shutdown(self, consumer: Any) -> None:
        """Publish the last events before the dispatcher closes."""
        self.flush(consumer)
