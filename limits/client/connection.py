"""Sending calls to the server from code that may block: one at a time, the same one again and again, or a pipeline."""

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
"""Seconds that every connection to Redis waits for a reply, and to be made. A connection may fall silent without being
closed: a firewall forgets it, or its server is gone. No command of ours takes longer than a second.
"""

_PACKED: Final = 64
"""So many repeated calls are kept as they are sent."""


def open_client(url: str, **options: Any) -> redis.Redis:
    """A client of the server at `url` that waits for no reply longer than `TIMEOUTS` say; `options` are redis-py's."""
    client: redis.Redis = redis.Redis.from_url(url, **{**timeouts(url), **options})
    return client


def open_async_client(url: str) -> redis.asyncio.Redis:
    """The same for an event loop."""
    client: redis.asyncio.Redis = redis.asyncio.Redis.from_url(url, **timeouts(url))
    return client


def timeouts(url: str) -> dict[str, Any]:
    """`TIMEOUTS` as a connection to `url` takes them: a socket on this machine is not kept alive."""
    here = url.startswith("unix:")
    return {name: value for name, value in TIMEOUTS.items() if not (here and name == "socket_keepalive")}


class Server:
    """Calls over a `redis.Redis`, which must not decode responses. For code that may block."""

    def __init__(self, client: redis.Redis) -> None:
        self.client = client
        self._loaded: set[str] = set()
        self._repeating = threading.Lock()
        self._packed: dict[tuple[Any, ...], list[bytes]] = {}
        self._line: Any = None

    def run(self, call: Call[T]) -> T:
        """The call's result.

        ServerUnavailable if the server does not answer or takes no writes, ScriptError if it refuses the call itself.
        """
        try:
            reply = self._evaluate("EVALSHA", call.script.sha, call)
        except NoScriptError:
            reply = self._evaluate("EVAL", call.script.source, call)
        return call.parse(reply)

    def repeat(self, call: Call[T]) -> T:
        """As `run`, for a call that is made again and again as it is: packed once, and on a connection of its own."""
        try:
            with self._repeating:
                reply = self._repeat(call)
        except RedisError:
            return self.run(call)  # which tries again, and knows what each error means
        return call.parse(reply)

    def close(self) -> None:
        """Let go of what is kept for repeated calls; the client is its owner's."""
        line, self._line = self._line, None
        if line is not None:
            line.disconnect()
            self.client.connection_pool.release(line)

    def _repeat(self, call: Call[T]) -> Any:
        if self._line is None:
            self._line = self.client.connection_pool.get_connection()
        line, key = self._line, (call.script.sha, call.keys, call.args)
        packed = self._packed.get(key)
        if packed is None:
            if len(self._packed) >= _PACKED:
                self._packed.clear()
            command = ("EVALSHA", call.script.sha, len(call.keys), *call.keys, *call.args)
            packed = self._packed[key] = line.pack_command(*command)
        try:
            line.send_packed_command(packed)
            return line.read_response()
        except ResponseError:
            raise
        except BaseException:
            line.disconnect()  # the next one connects it anew
            raise

    def run_many(self, calls: Sequence[Call[T]]) -> list[T]:
        """The results of several calls, sent in one pipeline in their order; they are not one step."""
        pipeline: Any = self.client.pipeline(transaction=False)
        new = {call.script.sha: call.script.source for call in calls if call.script.sha not in self._loaded}
        for source in new.values():
            # A script that the server did not know would be run after those behind it.
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
