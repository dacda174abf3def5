"""A producer that is no operator: plain kombu, one queue, and whatever it likes to put there.

For example:

    with Producer(site.redis_url(), "mallory") as mallory:
        name = mallory.send({"job": job(1)}, headers={"timelimit": ["a", "b"]})
        assert mallory.result(name)["error"] is None
"""

import base64
import json
from types import TracebackType
from typing import Any, Self
from uuid import uuid4

import redis
from kombu import Connection

from tests.support.site import wait_for

JOB = "overnight.job"


class Producer:
    """Puts messages into one workflow's queue."""

    def __init__(self, url: str, workflow: str) -> None:
        self.queue = f"workflow.{workflow}"
        self.client = redis.Redis.from_url(url)
        self.connection = Connection(url, transport="kombu.transport.redis:Transport")
        self._producer = self.connection.Producer()

    def __enter__(self) -> Self:
        # As kombu's own declaration of a queue leaves it: this is how workers find the queue.
        self.client.sadd(f"_kombu.binding.{self.queue}", f"{self.queue}\x06\x16\x06\x16{self.queue}")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.connection.release()
        self.client.close()

    def send(
        self,
        kwargs: Any,
        *,
        args: Any = (),
        embed: Any = None,
        headers: dict[str, Any] | None = None,
        body: Any = None,
        **options: Any,
    ) -> str:
        """A message as Celery's protocol has it, changed as asked; the id of its task."""
        name = str(uuid4())
        self._producer.publish(
            [args, kwargs, embed or {}] if body is None else body,
            routing_key=self.queue,
            headers={"lang": "py", "task": JOB, "id": name, **(headers or {})},
            **{"exchange": "", "serializer": "json", **options},
        )
        return name if headers is None else str(headers.get("id", name))

    def push(self, body: bytes, *, headers: dict[str, Any] | None = None, **properties: Any) -> str:
        """A message of our own making, as it lies in the queue's list."""
        name = str(uuid4())
        message = {
            "body": base64.b64encode(body).decode(),
            "content-encoding": "utf-8",
            "content-type": "application/json",
            "headers": {"task": JOB, "id": name, **(headers or {})},
            "properties": {
                "body_encoding": "base64",
                "delivery_info": {"exchange": "", "routing_key": self.queue},
                "delivery_tag": name,
                **properties,
            },
        }
        self.client.lpush(self.queue, json.dumps(message))
        return name

    def result(self, name: str, seconds: float = 30.0) -> dict[str, Any]:
        """What Celery's result of a task holds, as soon as there is one."""
        key = f"celery-task-meta-{name}"
        found: dict[str, Any] = json.loads(wait_for(lambda: self.client.get(key), seconds, what=f"result of {name}"))
        return found["result"] if isinstance(found["result"], dict) else found
