"""Sending calls from code that may block: one at a time, the same one again and again, or several in a pipeline."""

import threading
from collections.abc import Sequence
from typing import Any, Final, TypeVar

import redis
import redis.asyncio
from redis.exceptions import (
    ConnectionError as RedisConnectionError,
)
from redis.exceptions import (
    NoScriptError,
    RedisError,
    ResponseError,
)
from redis.exceptions import (
    TimeoutError as RedisTimeoutError,
)

from limits.client.replies import PASSING, as_limits_error
from limits.client.scripts import Call

T = TypeVar("T")

TIMEOUTS: Final[dict[str, Any]] = {"socket_timeout": 5.0, "socket_connect_timeout": 5.0, "socket_keepalive": True}
"""How long every connection to Redis waits for a reply, and to be established (seconds).

A connection may fall silent without being closed, because a firewall forgot it or its server is gone. None of our
commands takes longer than a second.
"""

_PACKED: Final = 64
"""How many repeated calls are kept packed."""


def open_client(url: str, **options: Any) -> redis.Redis:
    """A client with `TIMEOUTS`. `options` are redis-py's."""
    client: redis.Redis = redis.Redis.from_url(url, **{**timeouts(url), **options})
    return client


def open_async_client(url: str) -> redis.asyncio.Redis:
    """As `open_client`, for an event loop."""
    client: redis.asyncio.Redis = redis.asyncio.Redis.from_url(url, **timeouts(url))
    return client


def timeouts(url: str) -> dict[str, Any]:
    """`TIMEOUTS` for a connection to `url`. A unix socket takes no keepalive."""
    here = url.startswith("unix:")
    return {name: value for name, value in TIMEOUTS.items() if not (here and name == "socket_keepalive")}


class Server:
    """Calls over a `redis.Redis`, which must not decode responses. For code that may block."""

    def __init__(self, client: redis.Redis) -> None:
        self.client = client
        self._loaded: set[str] = set()
        self._repeating = threading.Lock()
        self._packed: dict[tuple[Any, ...], list[bytes]] = {}
        self._connection: Any = None

    def run(self, call: Call[T]) -> T:
        """Return the call's result.

        ServerUnavailable if the server does not answer or takes no writes. ScriptError if it refuses the call itself.
        """
        try:
            reply = self._evaluate("EVALSHA", call.script.sha, call)
        except NoScriptError:
            reply = self._evaluate("EVAL", call.script.source, call)
        return call.parse(reply)

    def repeat(self, call: Call[T]) -> T:
        """As `run`, for a call that is repeated unchanged: it is packed once, and has its own connection."""
        try:
            with self._repeating:
                reply = self._repeat(call)
        except RedisError:
            return self.run(call)  # tries again, and raises the right error
        return call.parse(reply)

    def close(self) -> None:
        """Close the connection of repeated calls. The client stays open."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.disconnect()
            self.client.connection_pool.release(connection)

    def _repeat(self, call: Call[T]) -> Any:
        if self._connection is None:
            self._connection = self.client.connection_pool.get_connection()
        connection, key = self._connection, (call.script.sha, call.keys, call.args)
        packed = self._packed.get(key)
        if packed is None:
            if len(self._packed) >= _PACKED:
                self._packed.clear()
            command = ("EVALSHA", call.script.sha, len(call.keys), *call.keys, *call.args)
            packed = self._packed[key] = connection.pack_command(*command)
        try:
            connection.send_packed_command(packed)
            return connection.read_response()
        except ResponseError:
            raise
        except BaseException:
            connection.disconnect()  # the next call connects again
            raise

    def run_many(self, calls: Sequence[Call[T]]) -> list[T]:
        """Return the results of several calls, sent in order in one pipeline. They are not one atomic step."""
        pipeline: Any = self.client.pipeline(transaction=False)
        new = {call.script.sha: call.script.source for call in calls if call.script.sha not in self._loaded}
        for source in new.values():
            # Load first: a call of an unknown script would have to be repeated after the calls behind it.
            pipeline.execute_command("SCRIPT", "LOAD", source)
        for call in calls:
            pipeline.execute_command("EVALSHA", call.script.sha, len(call.keys), *call.keys, *call.args)
        try:
            replies: list[Any] = pipeline.execute(raise_on_error=False)
        except (RedisConnectionError, RedisTimeoutError, *PASSING) as error:
            raise as_limits_error(error, "a pipeline") from error
        self._loaded.update(new)
        results: list[T] = []
        for reply, call in zip(replies[len(new) :], calls, strict=True):
            if isinstance(reply, NoScriptError):
                results.append(self.run(call))
            elif isinstance(reply, Exception):
                raise as_limits_error(reply, call.script.name) from reply
            else:
                results.append(call.parse(reply))
        return results

    def _evaluate(self, command: str, script: str, call: Call[T]) -> Any:
        client: Any = self.client
        try:
            return client.execute_command(command, script, len(call.keys), *call.keys, *call.args)
        except NoScriptError:
            raise
        except (RedisConnectionError, RedisTimeoutError, ResponseError) as error:
            raise as_limits_error(error, call.script.name) from error
