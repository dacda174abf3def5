"""A file that is touched as long as a process goes round: what a health check looks at, for next to nothing.

`OVERNIGHT_HEARTBEAT` names the file; where it is not set there is none.
"""

import os
from pathlib import Path
from typing import Any

from celery import bootsteps

#: Seconds between two touches; deploy/healthy.sh gives up after half a minute without one.
EVERY = 5.0


def touch() -> None:
    """Say that this process is well. A full disk says it neither way, and is no reason to fail."""
    if path := os.environ.get("OVERNIGHT_HEARTBEAT"):
        try:
            Path(path).touch()
        except OSError:
            return


class Heartbeat(bootsteps.StartStopStep):  # type: ignore[misc]  # Celery has no types
    """The worker's step that touches the file from its main loop, while it is connected to its broker."""

    requires = ("celery.worker.consumer.tasks:Tasks",)

    def __init__(self, consumer: Any, **options: Any) -> None:
        super().__init__(consumer, **options)
        self.timer_entry: Any = None

    def start(self, consumer: Any) -> None:
        """Touch it now, and every `EVERY` seconds."""
        touch()
        self.timer_entry = consumer.timer.call_repeatedly(EVERY, touch)

    def stop(self, consumer: Any) -> None:
        """The connection is lost, or the worker ends."""
        del consumer
        if self.timer_entry is not None:
            self.timer_entry.cancel()
            self.timer_entry = None

    shutdown = stop
