"""Celery's Redis backend, whose `.get()` outlives a subscription that has fallen silent.

A producer that waits for a result only listens. Celery would wait for ever on a connection that a firewall has
forgotten: here it is asked now and then whether it is alive, and made again if it has not answered twice.
"""

import time
from typing import Any, Final

from celery.backends import redis as stock
from redis.exceptions import ConnectionError as RedisConnectionError

#: Seconds between two questions, and how many of them may be without an answer.
ASK_EVERY: Final = 5.0
UNANSWERED: Final = 2


class ResultConsumer(stock.ResultConsumer):  # type: ignore[misc]  # Celery has no types
    """Celery's listener, which asks its server whether it still listens, too."""

    _asked_at = 0.0

    def drain_events(self, timeout: float | None = None) -> None:
        """Take in what has come within `timeout` seconds."""
        super().drain_events(timeout)
        now = time.monotonic()
        if now - self._asked_at >= ASK_EVERY:
            self._asked_at = now
            self._ask()

    def _ask(self) -> None:
        # Celery reconnects on an error, and reads whatever has come in between.
        with self._locked(), self.reconnect_on_error():
            pubsub: Any = self._pubsub
            if pubsub is None or pubsub.connection is None or not pubsub.subscribed:
                return
            if pubsub.health_check_response_counter >= UNANSWERED:
                pubsub.connection.disconnect()
                raise RedisConnectionError("the subscription to results has fallen silent")
            pubsub.check_health()


class Backend(stock.RedisBackend):  # type: ignore[misc]  # Celery has no types
    """The backend of redis:// and rediss:// in Overnight's processes."""

    ResultConsumer = ResultConsumer
