"""Celery's consumer, but a message that it cannot run becomes a dead letter.

Celery would print it (a prompt is private), acknowledge it (it is lost) or raise (the worker reconnects and gets it
again).
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
from workers import inspection, remote_control  # noqa: F401 - they register commands
from workers.config.current import current_settings
from workers.embedded import server_url
from workers.transport.broker import Broker
from workers.transport.envelope import unreadable
from workers.transport.queues import key_prefix

log = logging.getLogger(__name__)

#: Seconds until a message is delivered again after Celery's handler has failed.
RETRY_AFTER = 15.0

#: Failures of the handler after which the message becomes a dead letter.
MAX_UNTAKEN: Final = 3

#: The header that counts these failures.
UNTAKEN: Final = "overnight_untaken"

#: Called with each message that becomes a dead letter, and the reason.
on_dead_letter: list[Callable[[Any, str], None]] = []


class Consumer(CeleryConsumer):  # type: ignore[misc]  # Celery has no types
    """The worker's consumer."""

    def __init__(self, *args: Any, **options: Any) -> None:
        #: Queues that a `cancel_consumer` command has excluded.
        self.cancelled: set[str] = set()
        super().__init__(*args, **options)

    def create_task_handler(self, *args: Any, **options: Any) -> Callable[[Any], Any]:
        """Celery's handler of a delivered message, after a check of the message."""
        handle = super().create_task_handler(*args, **options)

        def on_task_received(message: Any) -> None:
            try:
                reason = unreadable(message, self.strategies.__contains__)
            except Exception as exc:
                log.exception("cannot check a message")
                reason = f"it could not be checked: {type(exc).__name__}"
            if reason is not None:
                self.bury(message, reason)
                return
            try:
                handle(message)
            except (redis.RedisError, OSError):
                raise
            except Exception as exc:
                log.exception("cannot start the task of message %s", message.headers.get("id"))
                self.snooze(message, type(exc).__name__)

        return on_task_received

    def bury(self, message: Any, reason: str) -> None:
        """Make a message a dead letter, which `overnight dead` lists."""
        info = message.delivery_info or {}
        queue = info.get("routing_key") or ""
        log.error("dead letter from %s, see `overnight dead`: %s", queue or "an unknown queue", reason)
        for act in on_dead_letter:
            try:
                act(message, reason)
            except Exception:
                log.exception("an action on a dead letter failed")
        channel = message.channel
        if hasattr(channel, "bury"):
            channel.bury(message.delivery_tag, reason)
        else:
            self._add_dead_letter(message, queue, reason)
        signals.task_rejected.send(sender=self, message=message, exc=None)

    def _add_dead_letter(self, message: Any, queue: str, reason: str) -> None:
        """As above, for a broker without dead letters of its own. Acknowledges the message once it is kept."""
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
        """Deliver a message again later, or make it a dead letter if it has failed too often.

        RabbitMQ only reports whether it was delivered before, so there the second failure is the last.
        """
        channel = message.channel
        snoozes = hasattr(channel, "snooze")
        before = message.headers.get(UNTAKEN)
        failed = (before if type(before) is int and before > 0 else 0) + 1
        if failed >= MAX_UNTAKEN or (not snoozes and (message.delivery_info or {}).get("redelivered")):
            self.bury(message, f"the worker failed to start its task, more than once: {failure}")
        elif snoozes:
            channel.snooze(message.delivery_tag, RETRY_AFTER, {UNTAKEN: failed})
        else:
            message.requeue()

    # Celery calls these for messages that our check has let pass. Its own versions would log, lose or repeat them.

    def on_unknown_message(self, body: Any, message: Any) -> None:
        """The message is not a task."""
        del body
        self.bury(message, "it is not a task")

    def on_unknown_task(self, body: Any, message: Any, exc: Exception) -> None:
        """No task of this name is registered."""
        del body, exc
        self.bury(message, "its task is unknown here")

    def on_invalid_task(self, body: Any, message: Any, exc: Exception) -> None:
        """No request can be made of the message."""
        del body
        self.bury(message, f"it is not a valid task: {type(exc).__name__}")

    def on_decode_error(self, message: Any, exc: Exception) -> None:
        """The body cannot be decoded."""
        self.bury(message, f"it cannot be decoded: {type(exc).__name__}")

    def add_task_queue(self, queue: Any, *args: Any, **options: Any) -> Any:
        """Consume from a queue, even if it was cancelled before."""
        self.cancelled.discard(getattr(queue, "name", queue))
        return super().add_task_queue(queue, *args, **options)

    def cancel_task_queue(self, queue: str) -> None:
        """Stop consuming from a queue until a command adds it again; following the registry does not."""
        self.cancelled.add(queue)
        super().cancel_task_queue(queue)
