"""Celery's consumer, which sets a message aside that it cannot read instead of failing, logging or losing it.

Celery's own answers to such a message are to print it (a prompt is private), to acknowledge it (it is gone) or to
raise (the worker reconnects, and meets it again).
"""

import logging
from collections.abc import Callable
from typing import Any, Final

import orjson
import redis
from celery import signals
from celery.worker.consumer import Consumer as CeleryConsumer

from limits.client.connection import Server, open_client
from limits.keys import Keys
from workers import inspection, remote_control  # noqa: F401 - they register what `control` does and `inspect` answers
from workers.config.current import current_settings
from workers.embedded import server_url
from workers.transport.broker import Broker
from workers.transport.envelope import unreadable
from workers.transport.queues import key_prefix

log = logging.getLogger(__name__)

#: A message that could not be taken on is tried again after so many seconds, and set aside after so many failures; the
#: header that counts them.
RETRY_AFTER, MAX_UNTAKEN = 15.0, 3
UNTAKEN: Final = "overnight_untaken"

#: What is to be done about a message that is set aside, besides, by its reason.
on_dead_letter: list[Callable[[Any, str], None]] = []


class Consumer(CeleryConsumer):  # type: ignore[misc]  # Celery has no types
    """The worker's consumer."""

    def __init__(self, *args: Any, **options: Any) -> None:
        #: Queues that somebody told this worker not to consume (`cancel_consumer`).
        self.cancelled: set[str] = set()
        super().__init__(*args, **options)

    def create_task_handler(self, *args: Any, **options: Any) -> Callable[[Any], Any]:
        """Celery's handler of a delivered message, behind a look at the message."""
        handle = super().create_task_handler(*args, **options)

        def on_task_received(message: Any) -> None:
            try:
                reason = unreadable(message, self.strategies.__contains__)
            except Exception as exc:
                log.exception("a message could not be looked at")
                reason = f"it could not be looked at: {type(exc).__name__}"
            if reason is not None:
                self.bury(message, reason)
                return
            try:
                handle(message)
            except (redis.RedisError, OSError):
                raise
            except Exception as exc:
                log.exception("message %s could not be taken on", message.headers.get("id"))
                self.snooze(message, type(exc).__name__)

        return on_task_received

    def bury(self, message: Any, reason: str) -> None:
        """Set a message aside for good: `overnight dead` lists it."""
        info = message.delivery_info or {}
        queue = info.get("routing_key") or ""
        log.error("a message of %s is set aside, see `overnight dead`: %s", queue or "an unknown queue", reason)
        for act in on_dead_letter:
            try:
                act(message, reason)
            except Exception:
                log.exception("what follows a message that is set aside failed")
        channel = message.channel
        if hasattr(channel, "bury"):
            channel.bury(message.delivery_tag, reason)
        else:
            self._add_dead_letter(message, queue, reason)
        signals.task_rejected.send(sender=self, message=message, exc=None)

    def _add_dead_letter(self, message: Any, queue: str, reason: str) -> None:
        """As above, for a broker that keeps no dead list itself; acknowledged only when it is kept."""
        settings = current_settings()
        body = message.body if isinstance(message.body, bytes) else str(message.body).encode()
        kept = {
            "body": body.decode("utf-8", "replace"),
            "content-type": message.content_type,
            "content-encoding": message.content_encoding,
            "headers": message.headers,
            "properties": {"priority": 0, "delivery_info": {"exchange": "", "routing_key": queue}},
        }
        with open_client(server_url(settings)) as client:
            broker = Broker(Keys(settings.namespace), key_prefix(settings.namespace))
            call = broker.add_dead_letter(queue, reason, orjson.dumps(kept, default=str).decode())
            Server(client).run(call)
        message.ack()

    def snooze(self, message: Any, failure: str) -> None:
        """Deliver a message again later, unless it has failed too often. RabbitMQ only knows whether it did before."""
        channel = message.channel
        snoozes = hasattr(channel, "snooze")
        before = message.headers.get(UNTAKEN)
        failed = (before if type(before) is int and before > 0 else 0) + 1
        if failed >= MAX_UNTAKEN or (not snoozes and (message.delivery_info or {}).get("redelivered")):
            self.bury(message, f"the worker could not take it on, more than once: {failure}")
        elif snoozes:
            channel.snooze(message.delivery_tag, RETRY_AFTER, {UNTAKEN: failed})
        else:
            message.requeue()

    # What Celery would log, lose or loop on; reached where our own look has let something pass.

    def on_unknown_message(self, body: Any, message: Any) -> None:
        """It is no task."""
        del body
        self.bury(message, "it is no task")

    def on_unknown_task(self, body: Any, message: Any, exc: Exception) -> None:
        """Nobody here knows its task."""
        del body, exc
        self.bury(message, "its task is unknown here")

    def on_invalid_task(self, body: Any, message: Any, exc: Exception) -> None:
        """Its task cannot be made of it."""
        del body
        self.bury(message, f"it is no valid task: {type(exc).__name__}")

    def on_decode_error(self, message: Any, exc: Exception) -> None:
        """Its body cannot be read."""
        self.bury(message, f"it cannot be decoded: {type(exc).__name__}")

    def add_task_queue(self, queue: Any, *args: Any, **options: Any) -> Any:
        """Consume a queue, from now on also after it was cancelled."""
        self.cancelled.discard(getattr(queue, "name", queue))
        return super().add_task_queue(queue, *args, **options)

    def cancel_task_queue(self, queue: str) -> None:
        """Stop consuming a queue until it is added again: not even our own discovery does."""
        self.cancelled.add(queue)
        super().cancel_task_queue(queue)
