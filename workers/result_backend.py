"""Celery's Redis backend, but `.get()` survives a subscription that has gone silent.

A producer that waits for a result only listens. If a firewall forgets the connection, Celery waits for ever. Here it
sends a health check now and then, and reconnects after two without an answer.
"""

import time
from typing import Any, Final

from celery.backends import redis as stock
from redis.exceptions import ConnectionError as RedisConnectionError

#: Seconds between two health checks.
CHECK_EVERY: Final = 5.0

#: Checks without an answer after which the connection is replaced.
MAX_UNANSWERED: Final = 2


class ResultConsumer(stock.ResultConsumer):  # type: ignore[misc]  # Celery has no types
    """Celery's listener, with health checks of its subscription."""

    _checked_at = 0.0

    def drain_events(self, timeout: float | None = None) -> None:
        """Handle results that arrive within `timeout` seconds."""
        super().drain_events(timeout)
        now = time.monotonic()
        if now - self._checked_at >= CHECK_EVERY:
            self._checked_at = now
            self._check()

    def _check(self) -> None:
        # On an error Celery reconnects and reads the results that it has missed.
        with self._locked(), self.reconnect_on_error():
            pubsub: Any = self._pubsub
            if pubsub is None or pubsub.connection is None or not pubsub.subscribed:
                return
            if pubsub.health_check_response_counter >= MAX_UNANSWERED:
                pubsub.connection.disconnect()
                raise RedisConnectionError("the subscription to results has gone silent")
            pubsub.check_health()


class Backend(stock.RedisBackend):  # type: ignore[misc]  # Celery has no types
    """The backend for redis:// and rediss:// in Overnight's processes."""

    ResultConsumer = ResultConsumer
