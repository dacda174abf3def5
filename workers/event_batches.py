"""Task events leave a few times a second, many in one message.

Celery's worker publishes what it has gathered at each turn of its hub, and waits for the broker each time: three
events a job at hundreds of jobs a second then cost more than the jobs.
"""

from typing import Any, Final

import orjson
from celery import bootsteps
from celery.worker.consumer.events import Events
from kombu import serialization

#: Seconds between two messages of events, and the most that one holds.
EVERY, MOST = 0.2, 1000

#: The serializer of batches: JSON as everybody else's, written by orjson.
SERIALIZER: Final = "overnight-events"


def _dumps(events: Any) -> str:
    """What orjson cannot write (a task of the user's may put anything into an event), kombu's own can."""
    try:
        return orjson.dumps(events).decode()
    except TypeError:
        return str(serialization.dumps(events, serializer="json")[2])


serialization.registry.register(SERIALIZER, _dumps, None, "application/json", "utf-8")
serialization.registry.type_to_name["application/json"] = "json"  # who reads it reads JSON


class EventBatches(bootsteps.StartStopStep):  # type: ignore[misc]  # Celery has no types
    """The consumer's step that replaces Celery's flush at every turn by one now and then."""

    requires = (Events,)

    def __init__(self, consumer: Any, **options: Any) -> None:
        super().__init__(consumer, **options)
        self.is_due = False

    def start(self, consumer: Any) -> None:
        """Take over the dispatcher, which is a new one after each lost connection."""
        dispatcher = consumer.event_dispatcher
        if consumer.hub is None or dispatcher is None:
            return
        self.is_due = False

        def gathered() -> None:
            if not self.is_due:
                self.is_due = True
                consumer.timer.call_after(EVERY, self.flush, (consumer,))

        dispatcher.buffer_limit = MOST
        if dispatcher.serializer == "json":
            dispatcher.serializer = SERIALIZER
        dispatcher.on_send_buffered = gathered

    def flush(self, consumer: Any) -> None:
        """Publish what has been gathered."""
        self.is_due = False
        if consumer.event_dispatcher is not None:
            consumer.event_dispatcher.flush()

    def shutdown(self, consumer: Any) -> None:
        """Publish the last ones; the dispatcher closes next."""
        self.flush(consumer)
