"""What the transport asks of its server: a typed function for each script.

A message is in one of four places, and each move is one step:

    a queue's lists ──claim──► unacked ──acknowledge──► gone
          ▲                      │  │ └──────bury──────► dead
          ├──give back, restore──┘  └────delay────► delayed
          └───────────────when due────────────────────┘

Lists have kombu's names, so a stock Celery producer needs no changes. `prefix` is kombu's `global_keyprefix`; a list's
name in tags and in `ready` does not include it.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal, cast

from limits.client.scripts import Call, load
from limits.encoding import SECOND
from limits.keys import Keys
from workers.config.settings import Settings
from workers.embedded import server_url
from workers.transport.compression import MAX_BODY

#: Bytes after which a claim stops: some messages contain long prompts.
MAX_CLAIM_BYTES: Final = 4 << 20

#: Bytes of the largest message that a worker gets: a body of `MAX_BODY` in base64, and its headers.
MAX_MESSAGE: Final = MAX_BODY * 4 // 3 + (1 << 20)

#: Seconds for which a dead letter is kept.
KEEP_DEAD: Final = 30 * 86_400

#: Dead letters that are kept.
MAX_DEAD: Final = 10_000

#: Bytes of dead letters that are kept.
MAX_DEAD_BYTES: Final = 64 << 20

#: The same as the scripts take it: milliseconds, messages, bytes.
_DEAD_LIMITS: Final = (KEEP_DEAD * 1000, MAX_DEAD, MAX_DEAD_BYTES)


@dataclass(frozen=True, slots=True)
class Source:
    """One list that a claim may take from."""

    name: str
    priority: int = 0  # lower numbers go first
    share: int = 1  # messages per turn, among lists of one priority
    limit: int = 0  # messages in this claim; 0: any number
    cap: int = 0  # messages of its queue in flight in all workers; 0: any number
    urgent: bool = False  # may use the credit that is kept for urgent work


@dataclass(frozen=True, slots=True)
class Claimed:
    """Messages with their delivery tags, and the lists that may hold more, if the claim asked for them."""

    messages: list[tuple[str, bytes]]
    ready: list[str]


@dataclass(frozen=True, slots=True)
class Swept:
    """What a sweep did."""

    mine: bool  # whether this call has swept; else it was not its turn
    next_in: float  # seconds until the next sweep
    due: int  # delayed messages that went back to their queues
    restored: int  # messages of dead workers that went back


@dataclass(frozen=True, slots=True)
class Delay:
    """A claimed message to deliver again in `seconds`: as `message`, or unchanged if that is empty."""

    tag: str
    seconds: float
    message: str = ""


@dataclass(frozen=True, slots=True)
class Broker:
    """One broker: a namespace on a server, and the prefix of its keys."""

    keys: Keys
    prefix: str = ""

    def _key(self, name: str) -> str:
        return self.prefix + name

    def _names(self, *names: str) -> tuple[str, ...]:
        return tuple(self.prefix + name for name in names)

    @property
    def _held(self) -> tuple[str, ...]:
        return self._names(self.keys.unacked, self.keys.unacked_index, self.keys.in_flight)

    @property
    def _delayed(self) -> tuple[str, ...]:
        return self._names(self.keys.delayed, self.keys.delayed_messages, self.keys.delayed_counts)

    @property
    def _woken(self) -> tuple[str, ...]:
        return self._names(self.keys.ready, self.keys.wake)

    @property
    def wake(self) -> str:
        """The list that idle workers block on."""
        return self._key(self.keys.wake)

    @property
    def never(self) -> str:
        """A list that nothing is pushed to: blocking on it is a sleep."""
        return self._key(self.keys.wake + ":never")

    def publish(self, name: str, *messages: str) -> Call[bool]:
        """Put messages into a list; without any, announce those that the caller has pushed."""
        return Call(_script("publish"), (*self._woken, self._key(name)), (name, *messages), bool)

    def schedule(self, tag: str, seconds: float, message: str) -> Call[bool]:
        """Publish a message for delivery in `seconds`."""
        return Call(_script("schedule"), self._delayed, (tag, _micro(seconds), message), bool)

    def claim(
        self, sources: Sequence[Source], *, most: int, ordinary: int, owner: str, number: int, with_ready: bool
    ) -> Call[Claimed]:
        """Take up to `most` messages, of which `ordinary` may come from queues that are not urgent.

        The tags are `owner` and a number, counted from `number`; no tag may be used twice. `with_ready` also returns
        the lists that may hold messages.
        """
        args: list[str | bytes | int] = [
            most,
            ordinary,
            MAX_CLAIM_BYTES,
            owner,
            number,
            int(with_ready),
            MAX_MESSAGE,
            *_DEAD_LIMITS,
        ]
        for source in sources:
            args += (source.name, source.priority, source.share, source.limit, source.cap, int(source.urgent))
        keys = (
            *self._held,
            *self._woken,
            self._key(self.keys.dead),
            *(self.prefix + each.name for each in sources),
        )
        return Call(_script("claim"), keys, tuple(args), _claimed)

    def acknowledge(self, tags: Sequence[str]) -> Call[int]:
        """Forget messages whose work is done. Returns how many were still this worker's."""
        return Call(_script("acknowledge"), self._held, tuple(tags), int)

    def delay(self, delays: Iterable[Delay]) -> Call[int]:
        """Move claimed messages to the delayed set. Returns how many were still this worker's."""
        args = [part for delay in delays for part in (delay.tag, _micro(delay.seconds), delay.message)]
        return Call(_script("delay"), (*self._held, *self._delayed), tuple(args), int)

    def give_back(self, tags: Sequence[str], where: Literal["first", "last"]) -> Call[int]:
        """Put claimed messages back into their queues. Returns how many were still this worker's."""
        return Call(_script("give_back"), (*self._held, *self._woken), (self.prefix, where, *tags), int)

    def heartbeat(self, tags: Sequence[str]) -> Call[list[str]]:
        """Keep these messages in flight. Returns the tags that have been restored to other workers."""
        return Call(_script("heartbeat"), (self._key(self.keys.unacked_index),), tuple(tags), _texts)

    def sweep(self, every: float, timeout: float, most: int) -> Call[Swept]:
        """Deliver due messages and restore those of dead workers, up to `most` of each, if it is the caller's turn."""
        keys = (self._key(self.keys.sweep), *self._delayed, *self._held, *self._woken)
        return Call(_script("sweep"), keys, (self.prefix, _micro(every), _micro(timeout), most), _swept)

    def find_unannounced(self, lists: Iterable[str]) -> Call[int]:
        """Look for messages in these lists (by key) that no producer announced. Returns how many lists have some."""
        return Call(_script("scout"), (*self._woken, *lists), (self.prefix,), int)

    def forget_delayed(self, tags: Sequence[str]) -> Call[int]:
        """Drop delayed messages. Returns how many were dropped."""
        return Call(_script("forget_delayed"), self._delayed, tuple(tags), int)

    def bury(self, tag: str, reason: str) -> Call[str]:
        """Make a claimed message a dead letter. Returns its id, or '' if it was no longer claimed."""
        keys = (*self._held, self._key(self.keys.dead))
        return Call(_script("bury"), keys, (tag, reason, *_DEAD_LIMITS), _text)

    def add_dead_letter(self, name: str, reason: str, message: str) -> Call[str]:
        """Make a dead letter of a message that is not in Redis. Returns its id."""
        args = (name, reason, message, *_DEAD_LIMITS)
        return Call(_script("entomb"), (self._key(self.keys.dead),), args, _text)

    def replay(self, ids: Sequence[str]) -> Call[int]:
        """Put dead letters back into their queues. Returns how many were put back."""
        return Call(_script("replay"), (self._key(self.keys.dead), *self._woken), (self.prefix, *ids), int)


def broker_url(settings: Settings) -> str | None:
    """The URL of the Redis server that holds the messages; None if the broker is not Redis."""
    if settings.broker_url is None:
        return server_url(settings)
    return settings.broker_url if settings.broker_url.startswith("redis") else None


def _script(name: str) -> Any:
    return load(f"workers/transport/lua/{name}.lua")


def _micro(seconds: float) -> int:
    return max(0, round(seconds * SECOND))


def _text(reply: Any) -> str:
    return cast("bytes", reply).decode()


def _texts(reply: Any) -> list[str]:
    return [item.decode() for item in cast("list[bytes]", reply)]


def _claimed(reply: Any) -> Claimed:
    flat, ready = reply
    pairs = zip(flat[::2], flat[1::2], strict=True)
    return Claimed([(tag.decode(), message) for tag, message in pairs], _texts(ready))


def _swept(reply: Any) -> Swept:
    mine, next_in, due, restored = reply
    return Swept(bool(mine), next_in / SECOND, due, restored)
