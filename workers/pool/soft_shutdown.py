"""Celery's soft shutdown, which ends as soon as the last task has ended."""

import logging
from typing import Any

from celery import bootsteps

from workers.pool.pool import TaskPool

log = logging.getLogger(__name__)


class SoftShutdown(bootsteps.StartStopStep):  # type: ignore[misc]  # Celery has no types
    """Waits in the pool during a soft shutdown, so that tasks can report that they have ended.

    Celery would sleep instead, and then cancel every task that it has not heard of, even those that have succeeded.
    """

    requires = ("celery.worker.components:Pool",)

    def start(self, worker: Any) -> None:
        """Replace Celery's sleep by a wait in the pool."""
        pool = worker.pool
        if not isinstance(pool, TaskPool):
            return

        def wait_for_soft_shutdown() -> None:
            seconds = worker.app.conf.worker_soft_shutdown_timeout
            if seconds > 0 and pool.executions:
                log.warning("soft shutdown: %d tasks have %g s to end", len(pool.executions), seconds)
                pool.wait_until_idle(seconds)

        worker.wait_for_soft_shutdown = wait_for_soft_shutdown
