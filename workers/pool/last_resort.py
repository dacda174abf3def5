"""The end of a worker that was told to stop and cannot: some seconds after its grace period, whatever it waits for.

A server that has fallen silent, a task's thread that never ends, a file system that hangs: each may hold up one step
of a shutdown. What such a worker leaves behind comes back as after a kill: its messages after the visibility timeout,
its reservations with their leases.
"""

import faulthandler
import logging
import os
import sys
import threading
import time
from typing import Any, Final

from celery import bootsteps, signals

log = logging.getLogger(__name__)

#: Seconds after the grace period that the steps of a shutdown have in all. A container's own limit must be longer.
OVERTIME: Final = 20.0


class LastResort(bootsteps.StartStopStep):  # type: ignore[misc]  # Celery has no types
    """Ends the process if its shutdown takes too long, with the stacks of its threads in the log."""

    requires = ("celery.worker.components:Pool",)

    def __init__(self, worker: Any, **options: Any) -> None:
        super().__init__(worker, **options)
        self.counting = False

    def start(self, worker: Any) -> None:
        """Begin to listen for the signal to stop. A pool of processes has children to end, and is left alone."""
        if worker.pool is not None and worker.pool.__module__ == "workers.pool.pool":
            grace = float(worker.app.conf.get("worker_stop_grace_period", 0.0))
            # Celery sends this in its signal handler, which runs also while the main thread waits for a socket.
            signals.worker_shutting_down.connect(
                lambda how="Warm", **_: self.count(grace if how == "Warm" else 0.0), weak=False
            )

    def count(self, grace: float) -> None:
        """Let `grace` seconds pass, and those of `OVERTIME`; only the first signal counts."""
        if not self.counting:
            self.counting = True
            threading.Thread(target=_end, args=(grace + OVERTIME,), name="last-resort", daemon=True).start()


def _end(seconds: float) -> None:
    time.sleep(seconds)
    try:
        log.critical("this worker was told to stop %g s ago and could not; it ends now, its jobs come back", seconds)
        # Celery has put a logger in place of sys.stderr.
        if sys.__stderr__ is not None:
            faulthandler.dump_traceback(sys.__stderr__, all_threads=True)
    finally:
        os._exit(1)
