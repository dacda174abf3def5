"""Sending calls from an event loop: all calls of one turn in one write.

`AsyncServer` collects the calls that are made within one turn of the loop, writes them together on one connection, and
matches the replies in order. With a hundred jobs in flight, a call costs a hundredth of a round trip. Calls of the same
script are sent as one (pipeline.py).

Scripts may be repeated. If the connection breaks, every unanswered call is sent again until its deadline passes. So are
calls that the server refuses for now (outstanding.py).
"""

import asyncio
import contextlib
import logging
import random
import time
from collections.abc import Callable, Sequence
from typing import Any, Final, TypeVar

import hiredis
from redis.asyncio.connection import Connection, UnixDomainSocketConnection, parse_url
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import (
    ConnectionError as RedisConnectionError,
)
from redis.exceptions import (
    RedisError,
)
from redis.exceptions import (
    TimeoutError as RedisTimeoutError,
)

from limits.client.outstanding import Outstanding
from limits.client.pipeline import Argument, Pending, command_of, groups
from limits.client.scripts import Call
from limits.errors import ScriptError, ServerUnavailable

T = TypeVar("T")

log = logging.getLogger(__name__)

_READ: Final = 1 << 16
"""Bytes that are read from the server at a time."""

_SILENCE: Final = 5.0
"""Seconds without a reply, while one is due, after which a connection counts as broken."""

_PACK: Final[Any] = hiredis.pack_command  # its types only allow pairs and commands of one part


class AsyncServer:
    """Calls from one event loop over one connection, in as few writes as possible.

    - `url`: any that redis-py takes: redis://, rediss:// or unix://, with user and password.
    - `timeout`: seconds that a call may take, reconnects included.
    - `most_pending`: how many calls may be unanswered before `run` blocks.

    It connects when it is first used, and again whenever the connection breaks.
    """

    def __init__(self, url: str, *, timeout: float = 10.0, most_pending: int = 10_000) -> None:
        options = dict(parse_url(url))
        kind: Any = options.pop("connection_class", None)
        if kind is None:
            kind = UnixDomainSocketConnection if "path" in options else Connection
        options.setdefault("socket_connect_timeout", 5.0)
        # RESP2, in which scripts reply. We retry, redis-py must not.
        no_retries: Any = Retry(NoBackoff(), 0)
        options |= {"protocol": 2, "retry": no_retries}
        self._make_connection: Callable[[], Any] = lambda: kind(**options)
        self._timeout = timeout
        self._outstanding = Outstanding(most_pending)
        self._task: asyncio.Task[None] | None = None
        self._heard = 0.0  # when the server last said anything
        self._closed = False

    async def run(self, call: Call[T], deadline: float | None = None) -> T:
        """Return the call's result. `deadline` in seconds from now, else `timeout`.

        ServerUnavailable if there is no answer by then, or if the server still refuses such calls. ScriptError if the
        server refuses the call itself, or if an argument cannot be sent.
        """
        script = call.script
        command = ("EVALSHA", script.sha, len(call.keys), *call.keys, *call.args)
        return call.parse(await self._submit(command, call, deadline))

    async def execute(self, *command: Argument, deadline: float | None = None) -> Any:
        """Return a plain command's reply, as bytes. If the connection breaks, the command may be sent twice."""
        return await self._submit(command, None, deadline)

    async def aclose(self) -> None:
        """Close the connection. Unanswered calls fail with ServerUnavailable."""
        self._closed = True
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
            self._task = None
        self._outstanding.fail_all(ServerUnavailable("The connection to Redis was closed."))

    async def _submit(self, command: tuple[Argument, ...], call: Call[Any] | None, deadline: float | None) -> Any:
        ends = time.monotonic() + (self._timeout if deadline is None else deadline)
        await self._outstanding.wait_for_room(ends)
        if self._closed:
            raise ServerUnavailable("The connection to Redis was closed.")
        pending = Pending(command, call, ends, asyncio.get_running_loop().create_future())
        self._outstanding.add(pending)
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._serve(), name="limits-connection")
        return await pending.future

    async def _serve(self) -> None:
        """Keep a connection and answer calls over it, until closed."""
        attempt = 0
        while True:
            connection = self._make_connection()
            try:
                await self._connect(connection)
                attempt = 0
                await self._exchange(connection)
            except (RedisError, OSError) as error:
                attempt += 1
                reason = f"The Redis server gave no answer: {error}."
            except Exception as error:
                # A defect of ours or of redis-py. The same calls could meet it again on every connection.
                log.exception("the connection to Redis failed, and the calls under way with it")
                attempt += 1
                reason = f"The connection to Redis failed: {error!r}."
                self._outstanding.fail_written(ScriptError(reason))
            finally:
                with contextlib.suppress(Exception):  # it is being thrown away, whatever state it is in
                    await connection.disconnect(nowait=True)
                # Even if this task ends: replies of the next connection must not answer these calls.
                self._outstanding.lose_connection()
            await self._back_off(attempt, reason)

    async def _connect(self, connection: Any) -> None:
        connecting = asyncio.create_task(connection.connect())
        try:
            while not (await asyncio.wait({connecting}, timeout=0.1))[0]:
                self._outstanding.fail_overdue(time.monotonic(), "The Redis server accepts no connection.")
            connecting.result()
            # From here on `_watch` enforces deadlines. A timeout for each write would cost a task.
            connection.socket_timeout = None
        finally:
            connecting.cancel()

    async def _back_off(self, attempt: int, reason: str) -> None:
        """Wait before the next connection, and fail the calls whose deadline passes."""
        ends = time.monotonic() + min(1.0, 0.02 * 2 ** min(attempt, 6)) * (0.5 + random.random())
        while True:
            now = time.monotonic()
            self._outstanding.fail_overdue(now, reason)
            if now >= ends:
                return
            await asyncio.sleep(min(0.1, ends - now))

    async def _exchange(self, connection: Any) -> None:
        writer = asyncio.create_task(self._write(connection))
        reader = asyncio.create_task(self._read(connection))
        watch = asyncio.create_task(self._watch())
        tasks = (writer, reader, watch)
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            await _end(tasks)

    async def _write(self, connection: Any) -> None:
        while True:
            await self._outstanding.wake.wait()
            self._outstanding.wake.clear()
            packed: list[bytes] = []
            for group in groups(self._outstanding.take_waiting()):
                try:
                    packed.append(_PACK(command_of(group)))
                except Exception as error:  # noqa: BLE001 - half a surrogate pair, None: the call's own fault
                    self._outstanding.take_unsendable(group, error)
                else:
                    self._outstanding.add_written(group)
            if packed:
                await connection.send_packed_command(packed, check_health=False)

    async def _read(self, connection: Any) -> None:
        # Reads all replies that have arrived. redis-py would read them one by one, each under a timeout.
        stream, missing = connection._reader, object()  # noqa: SLF001 - its socket, connected and authenticated
        parse_error = connection._parser.parse_error  # noqa: SLF001 - an error reply as redis-py's exception
        replies = hiredis.Reader(replyError=parse_error, notEnoughData=missing)
        while data := await stream.read(_READ):
            self._heard = time.monotonic()
            replies.feed(data)
            while (reply := replies.gets(False)) is not missing:
                self._outstanding.take_reply(reply)
        raise RedisConnectionError("the server closed the connection")

    async def _watch(self) -> None:
        """Raise if the server has stopped answering at all. A slow server is left alone.

        A new connection, over which everything is sent again, would only make a slow server slower.
        """
        while True:
            await asyncio.sleep(0.25)
            written = self._outstanding.written
            if not written:
                continue
            now = time.monotonic()
            if now - max(self._heard, written[0][0].written) > _SILENCE:
                raise RedisTimeoutError(f"no reply for {_SILENCE:g} s")
            self._outstanding.fail_overdue_written(now)


async def _end(tasks: Sequence["asyncio.Task[None]"]) -> None:
    """Cancel tasks until they have ended: redis-py's timeouts can swallow a cancellation."""
    left: set[asyncio.Task[None]] = set(tasks)
    while left:
        for task in left:
            task.cancel()
        _, left = await asyncio.wait(left, timeout=0.5)
    await asyncio.gather(*tasks, return_exceptions=True)
