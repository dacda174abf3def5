"""RabbitMQ as the broker: quorum queues, topic exchanges, native delayed delivery. State stays in Redis.

Celery's own transport is used, and RabbitMQ does what our transport does on Redis. It keeps a delivered message until
it is acknowledged, and delivers it again at once if its worker's connection is lost. A job's lease keeps such a second
delivery from making a second call. AMQP cannot list queues, so workers follow the registry and the configured
workflows. RabbitMQ pushes whatever it has, so gates cannot hold messages back: jobs are snoozed instead.
"""

import math
from typing import Any, Final

from kombu import Exchange
from kombu.transport.native_delayed_delivery import (
    bind_queue_to_native_delayed_delivery_exchange,
    calculate_routing_key,
)

from workers.config.settings import Settings

#: The exchange for delayed messages.
DELAYED: Final = "celery_delayed_27"

#: Seconds of the longest delay.
LONGEST: Final = 2**28 - 1


def is_amqp(settings: Settings) -> bool:
    """Whether the broker is RabbitMQ."""
    return settings.broker_url is not None and settings.broker_url.startswith("amqp")


def configuration() -> dict[str, Any]:
    """Celery's settings for RabbitMQ, each with its reason."""
    return {
        # Replicated, and kept by a full or restarting node. Producers of other applications must declare the same:
        # RabbitMQ refuses a second declaration that differs.
        "task_default_queue_type": "quorum",
        "task_create_missing_queue_type": "quorum",
        # Delayed delivery needs routing key patterns, which a direct exchange does not have.
        "task_default_exchange_type": "topic",
        "task_create_missing_queue_exchange_type": "topic",
        "broker_native_delayed_delivery_queue_type": "quorum",
        # Publishing fails unless the broker confirms it.
        "broker_transport_options": {"confirm_publish": True},
        "broker_heartbeat": 30,
        # Uses native delayed delivery, and a prefetch count for each consumer, as quorum queues need.
        "worker_detect_quorum_queues": True,
    }


def follow(connection: Any, queue: Any) -> None:
    """Bind a new queue to the exchange of delayed messages."""
    bind_queue_to_native_delayed_delivery_exchange(connection, queue)


def delayed(queue: str, seconds: float) -> dict[str, Any]:
    """Where to publish a message that is to reach `queue` in `seconds`, rounded up to whole ones."""
    countdown = min(LONGEST, max(1, math.ceil(seconds)))
    return {"exchange": Exchange(DELAYED, type="topic"), "routing_key": calculate_routing_key(countdown, queue)}
