"""What a channel has delivered, and how much more it may claim."""

from typing import Any

from kombu.transport import redis as stock
from kombu.transport import virtual

from workers.transport.fetch import MAX_CLAIM


class QoS(stock.QoS):  # type: ignore[misc]  # kombu has no types
    """kombu's QoS over `InFlight`, which outlives the channel and knows what is acknowledged."""

    def append(self, message: Any, delivery_tag: str) -> None:
        """Note a message that goes to its consumer."""
        self.channel.in_flight.hold(delivery_tag, message)
        virtual.QoS.append(self, message, delivery_tag)

    def can_consume(self) -> bool:
        """Whether one more message may be claimed."""
        return self.credit > 0

    @property
    def credit(self) -> int:
        """How many more messages may be claimed. Messages claimed over earlier connections count."""
        return self.prefetch_count - len(self.channel.in_flight) if self.prefetch_count else MAX_CLAIM

    def ack(self, delivery_tag: str) -> None:
        """Forget the message: its work is done."""
        self.channel.in_flight.acknowledge(delivery_tag)
        self._quick_ack(delivery_tag)

    def reject(self, delivery_tag: str, requeue: bool = False) -> None:
        """Put the message back at the end of its queue if `requeue`; forget it otherwise."""
        if requeue:
            self.channel.in_flight.give_back([delivery_tag], last=True)
        else:
            self.channel.in_flight.acknowledge(delivery_tag)
        self._quick_ack(delivery_tag)

    def restore_unacked(self, client: Any = None) -> None:
        """Put back every message that this channel has delivered."""
        del client
        self._flush()
        self.channel.in_flight.give_back(list(self._delivered))
        self._delivered.clear()

    def restore_unacked_once(self, stderr: Any = None) -> None:
        """Forget what was delivered: the channel closes, but its messages stay in flight while a job holds them."""
        del stderr
        self._on_collect.cancel()
        self._flush()
        self._delivered.clear()
        self._delivered.restored = True

    def restore_visible(self, *args: Any, **options: Any) -> None:
        """Do nothing: `InFlight` sweeps."""
