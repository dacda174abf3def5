"""Sending calls to the server from an event loop: those of a turn in one write.

`AsyncServer` gathers every call made within one turn of the loop, writes them together on one connection, and
matches the replies in order: with a hundred jobs in flight a call costs a hundredth of a round trip. Those of one
script go as one (limits/client/pipeline.py).
Scripts may be repeated, so when the connection breaks, whatever has no answer is sent again until its
deadline passes; and so is what the server refuses for now: it takes no writes, runs another client's long script, or
its user lacks a right.
"""

import asyncio
import contextlib
import logging
import random
import time
from collections import deque
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
    NoScriptError,
    RedisError,
)
from redis.exceptions import (
    TimeoutError as RedisTimeoutError,
)

from limits.client.pipeline import Argument, Pending, command_of, groups
from limits.client.replies import PASSING, as_limits_error, refuses_for_now
from limits.client.scripts import Call
from limits.errors import LimitsError, ScriptError, ServerUnavailable

T = TypeVar("T")

log = logging.getLogger(__name__)

_READ: Final = 1 << 16
"""Bytes that are read from the server at a time."""

_SILENCE: Final = 5.0
"""Seconds without any reply, while one is due, after which a connection counts as broken."""

_AGAIN: Final = 0.25
"""Seconds until a call is sent again that the server refused for now."""

_REMIND: Final = 60.0
"""Seconds between two log lines that say so."""

_PACK: Final[Any] = hiredis.pack_command  # its types know pairs, and commands of one part only


class AsyncServer:
    """Calls from one event loop over one connection, gathered into as few writes as possible.

    `url` is any that redis-py takes: redis://, rediss://, unix://, with user and password. `timeout` is how
    many seconds a call may take, reconnects included; `most_pending` how many calls may wait before `run`
    holds back. It connects when first used, and again whenever the connection breaks.
    """

    def __init__(self, url: str, *, timeout: float = 10.0, most_pending: int = 10_000) -> None:
        options = dict(parse_url(url))
        kind: Any = options.pop("connection_class", None)
        if kind is None:
            kind = UnixDomainSocketConnection if "path" in options else Connection
        options.setdefault("socket_connect_timeout", 5.0)
        # Replies as scripts give them; retries are ours.
        no_retries: Any = Retry(NoBackoff(), 0)
        options |= {"protocol": 2, "retry": no_retries}
        self._make_connection: Callable[[], Any] = lambda: kind(**options)
        self._timeout = timeout
        self._most_pending = most_pending
        self._waiting: deque[Pending] = deque()  # not written yet
        self._written: deque[list[Pending]] = deque()  # written as one each, in the order of their replies
        self._put_off: list[tuple[Pending, Exception]] = []  # refused for now, and with what
        self._out = 0  # how many these and the written ones are
        self._again_at: asyncio.TimerHandle | None = None
        self._remind_at = 0.0
        self._wake = asyncio.Event()
        self._room = asyncio.Event()
        self._room.set()
        self._task: asyncio.Task[None] | None = None
        self._heard = 0.0  # when the server last said anything
        self._closed = False

    async def run(self, call: Call[T], deadline: float | None = None) -> T:
        """The call's result. `deadline` in seconds from now, else `timeout`.

        ServerUnavailable if there is no answer by then or the server still refuses everything of its kind, ScriptError
        if it refuses the call itself or an argument cannot be sent.
        """
        script = call.script
        command = ("EVALSHA", script.sha, len(call.keys), *call.keys, *call.args)
        return call.parse(await self._submit(command, call, deadline))

    async def execute(self, *command: Argument, deadline: float | None = None) -> Any:
        """A plain command's reply, as bytes. If the connection breaks it may be sent twice, and must bear
        that.
        """
        return await self._submit(command, None, deadline)

    async def aclose(self) -> None:
        """Close the connection; calls without an answer fail with ServerUnavailable."""
        self._closed = True
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
            self._task = None
        self._fail(ServerUnavailable("The connection to Redis was closed."))

    async def _submit(self, command: tuple[Argument, ...], call: Call[Any] | None, deadline: float | None) -> Any:
        ends = time.monotonic() + (self._timeout if deadline is None else deadline)
        if len(self._waiting) + self._out >= self._most_pending:
            await self._hold_back(ends)
        if self._closed:
            raise ServerUnavailable("The connection to Redis was closed.")
        pending = Pending(command, call, ends, asyncio.get_running_loop().create_future())
        self._waiting.append(pending)
        self._wake.set()
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._serve(), name="limits-connection")
        return await pending.future

    async def _hold_back(self, ends: float) -> None:
        while len(self._waiting) + self._out >= self._most_pending:
            self._room.clear()
            try:
                await asyncio.wait_for(self._room.wait(), max(0.0, ends - time.monotonic()))
            except TimeoutError:
                raise ServerUnavailable(
                    f"{self._most_pending} calls to Redis are waiting already, and none was answered in time."
                ) from None

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
                # A defect of ours, or of redis-py. Sent again, the same calls might meet it on every connection.
                log.exception("the connection to Redis failed, and the calls under way with it")
                attempt += 1
                reason = f"The connection to Redis failed: {error!r}."
                self._fail_written(ScriptError(reason))
            finally:
                with contextlib.suppress(Exception):
                    await connection.disconnect(nowait=True)
                self._send_again()
                # Also where this task ends: the next one's replies must not be taken for these calls'.
                self._waiting.extendleft(reversed([pending for group in self._written for pending in group]))
                self._written.clear()
                self._out = 0
            await self._back_off(attempt, reason)

    async def _connect(self, connection: Any) -> None:
        connecting = asyncio.create_task(connection.connect())
        try:
            while not (await asyncio.wait({connecting}, timeout=0.1))[0]:
                self._fail_overdue(time.monotonic(), "The Redis server accepts no connection.")
            connecting.result()
            # From here on `_watch` sees to it that no call waits too long; a timeout of each write would cost a task.
            connection.socket_timeout = None
        finally:
            connecting.cancel()

    async def _back_off(self, attempt: int, reason: str) -> None:
        """Wait before the next connection, failing calls whose deadline passes meanwhile."""
        ends = time.monotonic() + min(1.0, 0.02 * 2 ** min(attempt, 6)) * (0.5 + random.random())
        while True:
            now = time.monotonic()
            self._fail_overdue(now, reason)
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
            await self._wake.wait()
            self._wake.clear()
            if not self._waiting:
                continue
            batch = [pending for pending in self._waiting if not pending.future.done()]
            self._waiting.clear()
            now = time.monotonic()
            for pending in batch:
                pending.written = now
            packed: list[bytes] = []
            for group in groups(batch):
                try:
                    packed.append(_PACK(command_of(group)))
                except Exception as error:  # noqa: BLE001 - half a surrogate pair, None: it is the call's own fault
                    self._cannot_be_sent(group, error)
                else:
                    self._written.append(group)
                    self._out += len(group)
            if packed:
                await connection.send_packed_command(packed, check_health=False)

    async def _read(self, connection: Any) -> None:
        # All replies that have come, at once: redis-py reads them one by one, each under a timeout of its own.
        stream, missing = connection._reader, object()  # noqa: SLF001 - its socket, connected and authenticated
        parse_error = connection._parser.parse_error  # noqa: SLF001 - an error reply as redis-py's exception
        replies = hiredis.Reader(replyError=parse_error, notEnoughData=missing)
        while data := await stream.read(_READ):
            self._heard = time.monotonic()
            replies.feed(data)
            while (reply := replies.gets(False)) is not missing:
                self._take(reply)
        raise RedisConnectionError("the server closed the connection")

    async def _watch(self) -> None:
        """A server that accepts calls and does not answer any is as good as gone; one that is slow is not.

        To connect again and send everything again would only make a slow one slower.
        """
        while True:
            await asyncio.sleep(0.25)
            if not self._written:
                continue
            now = time.monotonic()
            if now - max(self._heard, self._written[0][0].written) > _SILENCE:
                raise RedisTimeoutError(f"no reply for {_SILENCE:g} s")
            for pending in (pending for group in self._written for pending in group):
                if pending.deadline <= now and not pending.future.done():
                    pending.future.set_exception(ServerUnavailable("The Redis server gave no answer in time."))

    def _take(self, reply: Any) -> None:
        group = self._written.popleft()
        self._out -= len(group)
        if not self._room.is_set():
            self._room.set()
        if isinstance(reply, Exception):
            self._refused(group, reply)
        elif len(group) == 1:
            _answer(group[0], reply)
        elif isinstance(reply, list) and len(reply) == len(group):
            for pending, answer in zip(group, reply, strict=True):
                _answer(pending, answer)
        else:
            self._each_alone(group)

    def _refused(self, group: list[Pending], error: Exception) -> None:
        [first, *others] = group
        if isinstance(error, PASSING):
            self._written.appendleft(group)
            self._out += len(group)
            raise error
        if refuses_for_now(error):
            self._put_them_off(group, error)
            return
        if isinstance(error, NoScriptError) and first.call is not None:
            # One of them tells the server the script; the others come behind it.
            first.command = ("EVAL", first.call.script.source, *first.command[2:])
            first.alone = True
            self._again(group)
        elif others:
            # One ask may be at fault, and has changed nothing.
            self._each_alone(group)
        elif not first.future.done():
            first.future.set_exception(as_limits_error(error, _name(first)))

    def _cannot_be_sent(self, group: list[Pending], error: Exception) -> None:
        [first, *others] = group
        if others:
            self._each_alone(group)
        elif not first.future.done():
            words = f"{_name(first)}: an argument cannot be sent to Redis ({type(error).__name__}: {error})."
            first.future.set_exception(ScriptError(words))

    def _each_alone(self, group: list[Pending]) -> None:
        for pending in group:
            pending.alone = True
        self._again(group)

    def _again(self, group: list[Pending]) -> None:
        self._waiting.extend(group)
        self._wake.set()

    def _put_them_off(self, group: list[Pending], error: Exception) -> None:
        """Send calls again in a while, over the same connection: what others only read is still answered there."""
        self._put_off.extend((pending, error) for pending in group)
        self._out += len(group)
        if self._again_at is None:
            self._again_at = asyncio.get_running_loop().call_later(_AGAIN, self._send_again)
        now = time.monotonic()
        if now >= self._remind_at:
            self._remind_at = now + _REMIND
            log.warning("%d calls to Redis wait: %s", len(self._put_off), as_limits_error(error, _name(group[0])))

    def _send_again(self) -> None:
        """Send what was put off, unless its time is over."""
        if self._again_at is not None:
            self._again_at.cancel()
            self._again_at = None
        now = time.monotonic()
        for pending, error in self._put_off:
            if pending.future.done():
                continue
            if pending.deadline <= now:
                pending.future.set_exception(as_limits_error(error, _name(pending)))
            else:
                self._waiting.append(pending)
        self._out -= len(self._put_off)
        self._put_off.clear()
        self._wake.set()
        self._room.set()

    def _fail_overdue(self, now: float, reason: str) -> None:
        kept: deque[Pending] = deque()
        for pending in self._waiting:
            if pending.future.done():
                continue
            if pending.deadline <= now:
                pending.future.set_exception(ServerUnavailable(reason))
            else:
                kept.append(pending)
        self._waiting = kept
        self._wake.set()
        self._room.set()

    def _fail(self, error: ServerUnavailable) -> None:
        self._fail_written(error)
        for pending in self._waiting:
            if not pending.future.done():
                pending.future.set_exception(error)
        self._waiting.clear()
        self._out = 0
        self._room.set()

    def _fail_written(self, error: LimitsError) -> None:
        for pending in (pending for group in self._written for pending in group):
            if not pending.future.done():
                pending.future.set_exception(error)
        self._written.clear()


async def _end(tasks: Sequence["asyncio.Task[None]"]) -> None:
    """Cancel tasks until they have ended: redis-py's own timeouts can swallow a cancellation."""
    left: set[asyncio.Task[None]] = set(tasks)
    while left:
        for task in left:
            task.cancel()
        _, left = await asyncio.wait(left, timeout=0.5)
    await asyncio.gather(*tasks, return_exceptions=True)


def _answer(pending: Pending, reply: Any) -> None:
    if not pending.future.done():
        pending.future.set_result(reply)


def _name(pending: Pending) -> str:
    return pending.call.script.name if pending.call else str(pending.command[0])
