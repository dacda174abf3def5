"""The registry: a set in Redis with the workflow queues that every worker follows.

Our producers add their queue to it. A stock producer's queue is found by its messages: one worker at a time scans the
server's lists. Workers always follow the configured workflows. Of other names, the registry takes `MAX_UNCONFIGURED`,
and forgets one that has held no message for `KEEP_IDLE` seconds, or sooner if others need the room. A forgotten queue
that gets messages again is found again, so nothing is lost.
"""

import logging
import time
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, cast

from limits.keys import Keys
from workers.config.settings import Settings
from workers.transport.queues import PREFIX, SEPARATOR, depths, key_prefix, queue_name, registered, workflow_of

if TYPE_CHECKING:
    import redis

log = logging.getLogger(__name__)

#: Unconfigured workflow names that workers follow at a time.
MAX_UNCONFIGURED: Final = 1_000

#: Seconds for which an unconfigured name without messages stays.
KEEP_IDLE: Final = 3_600.0

#: Seconds between two looks for names to forget.
PRUNE_EVERY: Final = 60.0

#: Seconds between two warnings about names that are not followed.
WARN_EVERY: Final = 60.0

#: Seconds between two scans for queues of stock producers.
SCAN_EVERY: Final = 2.0

#: Seconds that one scan takes.
SCAN_FOR: Final = 0.02

#: Seconds after which Redis drops the ages of names if no worker reads them.
AGES_EXPIRE: Final = 30 * 86_400


@dataclass(slots=True)
class Registry:
    """The registry of a namespace, as one worker uses it.

    `broker` is the server that holds the messages, None on RabbitMQ. `clock` returns seconds since the epoch.
    """

    client: "redis.Redis"
    keys: Keys
    settings: Settings
    broker: "redis.Redis | None" = None
    clock: Callable[[], float] = time.time
    _warned: float = field(default=0.0, init=False)
    _pruned: float = field(default=0.0, init=False)

    def wanted(self) -> set[str]:
        """The queues that workers follow: configured and registered ones."""
        return registered(self.client, self.keys) | self._configured()

    def scan(self, seconds: float = SCAN_FOR) -> None:
        """Adopt the queues of stock producers. One process does it for all, every `SCAN_EVERY` seconds.

        A scan takes `seconds`, and the next one continues from there. So a server with millions of keys takes minutes,
        and no other command waits long.
        """
        if not self.client.set(self.keys.queue_scan, b"1", px=int(SCAN_EVERY * 1000), nx=True):
            return
        before = key_prefix(self.keys.namespace)
        ends = time.monotonic() + seconds
        cursor = int(cast("bytes | None", self.client.get(self.keys.queue_cursor)) or 0)
        found: set[str] = set()
        while True:
            cursor, page = cast(
                "tuple[int, list[bytes]]",
                (self.broker or self.client).scan(cursor, match=f"{before}{PREFIX}*", count=1000, _type="LIST"),
            )
            found |= {_queue_of(key, before) for key in page}
            if cursor == 0 or time.monotonic() > ends:
                break
        self.client.set(self.keys.queue_cursor, cursor, ex=3600)
        self.adopt(found)
        if self.clock() - self._pruned >= PRUNE_EVERY:
            self._pruned = self.clock()
            self.prune()
            excess = len(registered(self.client, self.keys) - self._configured()) - MAX_UNCONFIGURED
            if excess > 0:  # our own producers register names without counting them
                self.prune(idle=0.0, most=excess)

    def adopt(self, queues: Iterable[str]) -> None:
        """Register these queues, which hold messages. Unconfigured ones must be allowed by the settings, and fit."""
        configured = self._configured()
        new = {queue for queue in queues if workflow_of(queue)} - configured
        if not new:
            return
        if not self.settings.any_workflow:
            self._warn(new, "are not configured and not run: add [workflows.NAME], or unconfigured_workflows = true")
            return
        known = registered(self.client, self.keys) - configured
        new -= known
        room = MAX_UNCONFIGURED - len(known)
        if len(new) > room:
            room += self.prune(idle=0.0, most=len(new) - room)
        names = sorted(new)[: max(0, room)]
        if names:
            self.client.zadd(self.keys.queue_ages, dict.fromkeys(names, self.clock()))
            self.client.expire(self.keys.queue_ages, AGES_EXPIRE)
            self.client.sadd(self.keys.queues, *names)
        if len(new) > len(names):
            words = f"wait for room, {MAX_UNCONFIGURED:,} unconfigured ones have jobs: add [workflows.NAME] for yours"
            self._warn(new - set(names), words)

    def prune(self, idle: float = KEEP_IDLE, most: int | None = None) -> int:
        """Forget up to `most` unconfigured names without a message for `idle` seconds. Returns how many were forgotten.

        On RabbitMQ all names stay: only our own producers register them, and Redis can't see their queues.
        """
        names = sorted(registered(self.client, self.keys) - self._configured())
        if self.broker is None or not names:
            return 0
        now = self.clock()
        held = depths(self.broker, self.keys, names)
        seen = self.client.zmscore(self.keys.queue_ages, names)
        used = {name: now for name, at in zip(names, seen, strict=True) if at is None or held[name].total}
        ages = dict(zip(names, seen, strict=True)) | used
        old = sorted(
            (at, name) for name, at in ages.items() if at is not None and not held[name].total and now - at >= idle
        )
        gone = [name for _, name in old[:most]]
        if used:
            self.client.zadd(self.keys.queue_ages, used)
            self.client.expire(self.keys.queue_ages, AGES_EXPIRE)
        if gone:
            self.client.srem(self.keys.queues, *gone)
            self.client.zrem(self.keys.queue_ages, *gone)
        return len(gone)

    def _configured(self) -> set[str]:
        return {queue_name(name) for name in self.settings.workflows}

    def _warn(self, queues: Collection[str], words: str) -> None:
        if time.monotonic() - self._warned < WARN_EVERY and self._warned:
            return
        self._warned = time.monotonic()
        names = ", ".join(sorted(queues)[:3]) + (", …" if len(queues) > 3 else "")  # noqa: PLR2004 - a line's worth
        log.warning("%d workflows %s (%s)", len(queues), words, names)


class UnfollowedQueues:
    """Reports queues that hold messages and that this worker does not follow yet."""

    def __init__(self) -> None:
        self.listeners: list[Callable[[Collection[str]], None]] = []

    def report(self, queues: Collection[str]) -> None:
        """Call each listener with these queues."""
        for listener in tuple(self.listeners):
            listener(queues)


#: What the channels of this process report to.
unfollowed = UnfollowedQueues()


def _queue_of(key: bytes, before: str) -> str:
    return key.decode(errors="replace").removeprefix(before).partition(SEPARATOR)[0]
