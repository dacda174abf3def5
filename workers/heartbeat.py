"""The health file: a worker touches it while its main loop runs, and a health check looks at its age.

`OVERNIGHT_HEARTBEAT` names the file. If it is not set, there is no file.
"""

import os
from pathlib import Path
from typing import Any

from celery import bootsteps

#: Seconds between two touches. deploy/healthy.sh reports a failure after half a minute without one.
EVERY = 5.0


def touch() -> None:
    """Touch the health file. Ignore errors: a full disk says nothing about this process."""
    if path := os.environ.get("OVERNIGHT_HEARTBEAT"):
        try:
            Path(path).touch()
        except OSError:
            return


class Heartbeat(bootsteps.StartStopStep):  # type: ignore[misc]  # Celery has no types
    """The worker's step that touches the file from its main loop while it is connected to its broker."""

    requires = ("celery.worker.consumer.tasks:Tasks",)

    def __init__(self, consumer: Any, **options: Any) -> None:
        super().__init__(consumer, **options)
        self.timer_entry: Any = None

    def start(self, consumer: Any) -> None:
        """Touch the file now and every `EVERY` seconds."""
        touch()
        self.timer_entry = consumer.timer.call_repeatedly(EVERY, touch)

    def stop(self, consumer: Any) -> None:
        """Stop touching: the connection is lost or the worker stops."""
        del consumer
        if self.timer_entry is not None:
            self.timer_entry.cancel()
            self.timer_entry = None

    shutdown = stop
