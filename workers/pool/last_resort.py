"""Ends a worker that was asked to stop and can't, when its grace period is over.

A silent server, a thread that never ends or a hanging file system can block a step of the shutdown. Everything comes
back as after a kill: messages after the visibility timeout, reservations when their leases end.
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

#: Seconds at the end of the grace period that are left for everything but calls: interrupted jobs settle, leases and
#: connections end. A worker whose grace period is shorter takes these all the same.
CLOSING: Final = 5.0


class LastResort(bootsteps.StartStopStep):  # type: ignore[misc]  # Celery has no types
    """Ends the process if its shutdown takes too long, and logs its threads' stacks."""

    requires = ("celery.worker.components:Pool",)

    def __init__(self, worker: Any, **options: Any) -> None:
        super().__init__(worker, **options)
        self.counting = False

    def start(self, worker: Any) -> None:
        """Listen for the signal to stop. Other pools are left alone: prefork has children to end."""
        if worker.pool is not None and worker.pool.__module__ == "workers.pool.pool":
            grace = float(worker.app.conf.get("worker_stop_grace_period", 0.0))
            # Celery sends this from its signal handler, which runs even while the main thread waits for a socket.
            signals.worker_shutting_down.connect(
                lambda how="Warm", **_: self.count(grace if how == "Warm" else 0.0), weak=False
            )

    def count(self, grace: float) -> None:
        """End the process in `grace` seconds, but at least `CLOSING`. Only the first signal counts."""
        if not self.counting:
            self.counting = True
            threading.Thread(target=_end, args=(max(grace, CLOSING),), name="last-resort", daemon=True).start()


def _end(seconds: float) -> None:
    time.sleep(seconds)
    try:
        log.critical("this worker was asked to stop %g s ago and could not; it ends now, its jobs come back", seconds)
        # Celery has replaced sys.stderr with a logger.
        if sys.__stderr__ is not None:
            faulthandler.dump_traceback(sys.__stderr__, all_threads=True)
    finally:
        os._exit(1)
