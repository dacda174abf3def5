"""`inspect scheduled` with the server's delayed messages, and `inspect conf` without passwords. Flower shows both.

Celery's own `scheduled` only knows one worker's memory.
"""

from contextlib import suppress
from datetime import UTC, datetime
from typing import Any, cast

import redis
from celery.worker import control
from kombu.utils.url import maybe_sanitize_url

from limits.encoding import SECOND
from workers.transport.message import parse, queue_of

#: Delayed messages in one answer at most, soonest first.
MAX_LISTED = 100

_scheduled = control.scheduled


def delayed(client: "redis.Redis", zset: str, messages: str) -> list[dict[str, Any]]:
    """The delayed messages, in the form of Celery's scheduled requests, without their contents."""
    found = cast("list[tuple[bytes, float]]", client.zrange(zset, 0, MAX_LISTED - 1, withscores=True))
    if not found:
        return []
    raws = cast("list[bytes | None]", client.hmget(messages, [tag for tag, _ in found]))
    listed = []
    for (name, due), raw in zip(found, raws, strict=True):
        tag = name.decode()
        with suppress(Exception):  # a malformed message becomes a dead letter when it is due
            message = parse(raw or b"", tag, queue_of(tag))
            listed.append(
                {
                    "eta": datetime.fromtimestamp(due / SECOND, UTC).isoformat(),
                    "priority": 6,
                    "request": {
                        "id": message["headers"].get("id"),
                        "name": message["headers"].get("task"),
                        "args": [],
                        "kwargs": {},
                        "type": message["headers"].get("task"),
                        "hostname": None,
                        "time_start": None,
                        "acknowledged": False,
                        "delivery_info": {**message["properties"]["delivery_info"], "routing_key": queue_of(tag)},
                        "worker_pid": None,
                    },
                }
            )
    return listed


@control.inspect_command(alias="dump_schedule")  # type: ignore[untyped-decorator]  # Celery has no types
def scheduled(state: Any, **options: Any) -> list[dict[str, Any]]:
    """Requests with an ETA: this worker's, and delayed messages in the server for any worker."""
    listed = list(_scheduled(state, **options))
    channel: Any = getattr(state.consumer.task_consumer, "channel", None)
    if hasattr(channel, "broker"):
        prefix, keys = channel.broker.prefix, channel.broker.keys
        with channel.conn_or_acquire() as client, suppress(redis.RedisError):
            plain = redis.Redis(connection_pool=client.connection_pool)
            listed += delayed(plain, prefix + keys.delayed, prefix + keys.delayed_messages)
    return listed


_conf = control.conf


@control.inspect_command(  # type: ignore[untyped-decorator]  # Celery has no types
    alias="dump_conf", signature="[include_defaults=False]", args=[("with_defaults", control.strtobool)]
)
def conf(state: Any, with_defaults: bool = False, **options: Any) -> dict[str, Any]:
    """The configuration, without passwords in URLs. Celery only hides those of its own settings."""
    settings: dict[str, Any] = _conf(state, with_defaults=with_defaults, **options)
    return {key: maybe_sanitize_url(value) if isinstance(value, str) else value for key, value in settings.items()}
