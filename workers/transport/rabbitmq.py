"""RabbitMQ as the broker: quorum queues, topic exchanges, native delayed delivery. State stays in Redis.

Celery's own transport serves it, and the broker does there what our transport does on Redis: it holds what is
delivered until it is acknowledged, and delivers it again at once when its worker's connection is gone. A job's lease
keeps such a second delivery from making a second call. Queues cannot be listed over AMQP: workers follow the registry
and the configured workflows. Gates fall back to snoozing, since the broker pushes whatever it has.
"""

import math
from typing import Any, Final

from kombu import Exchange
from kombu.transport.native_delayed_delivery import (
    bind_queue_to_native_delayed_delivery_exchange,
    calculate_routing_key,
)

from workers.config.settings import Settings

#: The exchange that a delayed message is published to, and the longest delay that it takes, in seconds.
DELAYED: Final = "celery_delayed_27"
LONGEST: Final = 2**28 - 1


def is_amqp(settings: Settings) -> bool:
    """Whether the broker is RabbitMQ."""
    return settings.broker_url is not None and settings.broker_url.startswith("amqp")


def configuration() -> dict[str, Any]:
    """Celery's settings for RabbitMQ, each with its reason."""
    return {
        # Replicated, and never dropped by a full or restarting node. Producers of other applications must say the
        # same: RabbitMQ refuses two declarations of one queue that differ.
        "task_default_queue_type": "quorum",
        "task_create_missing_queue_type": "quorum",
        # Delayed delivery works by routing keys, and a direct exchange knows no patterns.
        "task_default_exchange_type": "topic",
        "task_create_missing_queue_exchange_type": "topic",
        "broker_native_delayed_delivery_queue_type": "quorum",
        # Publishing has failed unless the broker says that it has not.
        "broker_transport_options": {"confirm_publish": True},
        "broker_heartbeat": 30,
        # A message that is delivered again says so, and its job's lease decides.
        "worker_detect_quorum_queues": True,
    }


def follow(connection: Any, queue: Any) -> None:
    """Let delayed messages reach a queue that has just been found."""
    bind_queue_to_native_delayed_delivery_exchange(connection, queue)


def delayed(queue: str, seconds: float) -> dict[str, Any]:
    """Where to publish a message that is to be in `queue` after so many seconds, rounded up to whole ones."""
    countdown = min(LONGEST, max(1, math.ceil(seconds)))
    return {"exchange": Exchange(DELAYED, type="topic"), "routing_key": calculate_routing_key(countdown, queue)}
