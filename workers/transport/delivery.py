"""What a channel does with a claimed message: delivers it, delays it until its ETA, or makes it a dead letter."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import AbstractContextManager
from queue import Empty
from typing import Any, cast
from uuid import uuid4

from kombu.transport import redis as stock

from limits.client.scripts import Call
from workers.transport.broker import Broker, Claimed, Source
from workers.transport.envelope import MAX_DEATHS
from workers.transport.in_flight import InFlight
from workers.transport.message import deaths_of, parse, queue_of, seconds_until_due
from workers.transport.queues import PRIORITIES, lists


class DeliveringChannel(stock.Channel, ABC):  # type: ignore[misc]  # kombu has no types
    """A channel's consumers, and the claims that it makes for them."""

    broker: Broker

    def __init__(self, *args: Any, **options: Any) -> None:
        self._owner = uuid4().hex[:16] + "."
        self._number = 0  # of the next delivery tag
        self._without_ack: set[str] = set()  # queues consumed without acknowledgement
        self._consumers_of: dict[str, Callable[[Any], Any]] = {}  # the callback of each queue
        self._active: list[str] | None = None
        super().__init__(*args, **options)

    @property
    @abstractmethod
    def in_flight(self) -> InFlight:
        """The messages that this process has claimed from this broker."""

    @abstractmethod
    def run(self, call: Call[Any]) -> Any:
        """Run a script over a connection that no claim uses."""

    @abstractmethod
    def doubting(self) -> AbstractContextManager[None]:
        """Drop every connection of this channel if one of them times out in the block."""

    def basic_consume(self, queue: str, no_ack: bool, callback: Callable[[Any], Any], **options: Any) -> Any:
        """Consume from a queue; with `no_ack`, over kombu's own BRPOP."""
        if no_ack:
            self._without_ack.add(queue)
        else:
            self.in_flight.watched.add(queue)
            self.in_flight.start()
        self._active = None
        self._consumers_of[queue] = callback
        return super().basic_consume(queue, no_ack, callback, **options)

    def _basic_cancel(self, consumer_tag: str) -> Any:
        queue = self._tag_to_queue.get(consumer_tag)
        if queue is not None and self._in_flight is not None:
            self._in_flight.watched.discard(queue)
            self._consumers_of.pop(queue, None)
        self._without_ack.discard(queue or "")
        self._active = None
        try:
            return super()._basic_cancel(consumer_tag)
        finally:
            self._active = None

    @property
    def active_queues(self) -> list[str]:
        """The queues that this channel consumes from; cached, since the loop reads it at every turn."""
        if self._active is None:
            self._active = super().active_queues
        return self._active

    def _claim(self, sources: list[Source], most: int, ordinary: int, *, with_ready: bool) -> Call[Claimed]:
        number = self._number
        # Never use a tag twice, even if the reply to a claim is lost.
        self._number += most
        return self.broker.claim(
            sources, most=most, ordinary=ordinary, owner=self._owner, number=number, with_ready=with_ready
        )

    def _deliver_one(self, tag: str, raw: bytes) -> None:
        """Pass a claimed message to its consumer, delay it until its ETA, or make it a dead letter."""
        queue = queue_of(tag)
        if (deaths := deaths_of(raw)) > MAX_DEATHS:  # its parsing may be what kills workers
            self.in_flight.bury(tag, f"{deaths} workers ended while they had it")
            return
        try:
            payload = parse(raw, tag, queue)
            message = self.Message(payload, channel=self)  # raises if kombu cannot use the payload
            wait = seconds_until_due(payload)
        except Exception as exc:  # noqa: BLE001 - a malformed message can raise anything; the dead letter says what
            self.in_flight.bury(tag, f"unreadable: {type(exc).__name__}: {exc}")
            return
        if wait > 0:
            self.in_flight.delay(tag, wait)
            return
        # It is due: without this, Celery would hold it back again.
        payload["headers"].pop("eta", None)
        consumer = self._consumers_of.get(queue)
        if consumer is None:
            self.connection._deliver(payload, queue)  # noqa: SLF001 - as kombu's channel does without a consumer
        elif queue in self._without_ack:
            consumer(message)
            self.in_flight.acknowledge(tag)
        else:
            self.qos.append(message, tag)
            consumer(message)

    def _get(self, queue: str) -> dict[str, Any]:
        """One message of a queue that has no consumer. Raises Empty if it is empty."""
        self.in_flight.start()
        sources = [Source(name, step) for name, step in zip(lists(queue), PRIORITIES, strict=True)]
        claimed = cast("Claimed", self.run(self._claim(sources, 1, 1, with_ready=False)))
        for tag, raw in claimed.messages:
            try:
                return parse(raw, tag, queue)
            except Exception as exc:  # noqa: BLE001 - as above
                self.in_flight.bury(tag, f"unreadable: {type(exc).__name__}: {exc}")
        raise Empty

    def basic_get(self, queue: str, no_ack: bool = False, **options: Any) -> Any:
        """One message, or None."""
        message = super().basic_get(queue, no_ack, **options)
        if no_ack and message is not None:
            self.in_flight.acknowledge(message.delivery_tag)
        return message
