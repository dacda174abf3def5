"""What the transport asks of its server: a typed function a script.

A message is in one of four sources, and moves between them in one step each:

    a queue's lists ──claim──► unacked ──acknowledge──► gone
          ▲                      │  │ └──────bury──────► dead
          ├──give back, restore──┘  └────delay────► delayed
          └───────────────when due────────────────────┘

Lists are named as kombu names them, so a stock Celery producer needs to know nothing of this. `prefix` is kombu's
`global_keyprefix`; a list's name, in tags and in `ready`, goes without it.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal, cast

from limits.client.scripts import Call, load
from limits.keys import Keys
from workers.config.settings import Settings
from workers.embedded import server_url
from workers.transport.compression import MAX_BODY

MICRO: Final = 1_000_000

#: A claim stops after this many bytes: some messages hold long prompts.
CLAIM_BYTES: Final = 4 << 20

#: Bytes of the largest message that a worker is given: a body of `MAX_BODY` in base64.
MAX_MESSAGE: Final = MAX_BODY * 4 // 3 + (1 << 20)

#: How long the dead list keeps a message, in seconds, how many it keeps, and how many bytes of them.
KEEP_DEAD, MAX_DEAD, DEAD_BYTES = 30 * 86_400, 10_000, 64 << 20
_KEPT: Final = (KEEP_DEAD * 1000, MAX_DEAD, DEAD_BYTES)


@dataclass(frozen=True, slots=True)
class Source:
    """One list that a claim may take from.

    `priority`: lower goes first. `share`: messages a turn, among lists of one priority. `limit`: how many in this
    claim, `cap`: how many of its queue may be in flight in all workers; 0 for any number. `urgent`: may use the credit
    that is kept for urgent work.
    """

    name: str
    priority: int = 0
    share: int = 1
    limit: int = 0
    cap: int = 0
    urgent: bool = False


@dataclass(frozen=True, slots=True)
class Claimed:
    """Messages with their delivery tags, and the lists that may hold more where that was asked."""

    messages: list[tuple[str, bytes]]
    ready: list[str]


@dataclass(frozen=True, slots=True)
class Swept:
    """Whether this call has swept, the seconds until the next one may, and what came back to the queues."""

    mine: bool
    next_in: float
    due: int
    restored: int


@dataclass(frozen=True, slots=True)
class Delay:
    """A claimed message that is to come back in `seconds`; as `message`, or as it is."""

    tag: str
    seconds: float
    message: str = ""


@dataclass(frozen=True, slots=True)
class Broker:
    """The keys of one broker: a namespace on a server, and what its keys begin with."""

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
        """A list that nothing is pushed to: blocking on it is a pause."""
        return self._key(self.keys.wake + ":never")

    def publish(self, name: str, *messages: str) -> Call[bool]:
        """Put messages into a list; without any, tell that some were put there."""
        return Call(_script("publish"), (*self._woken, self._key(name)), (name, *messages), bool)

    def schedule(self, tag: str, seconds: float, message: str) -> Call[bool]:
        """Publish a message that is to be delivered in `seconds`."""
        return Call(_script("schedule"), self._delayed, (tag, _micro(seconds), message), bool)

    def claim(
        self, sources: Sequence[Source], *, most: int, ordinary: int, owner: str, number: int, tell: bool
    ) -> Call[Claimed]:
        """Take up to `most` messages, `ordinary` of them from queues that are not urgent.

        Their tags are `owner` and a number, from `number` on, that was never used before.
        """
        args: list[str | bytes | int] = [most, ordinary, CLAIM_BYTES, owner, number, int(tell), MAX_MESSAGE, *_KEPT]
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
        """Forget messages whose work is done; how many were unacknowledged."""
        return Call(_script("acknowledge"), self._held, tuple(tags), int)

    def delay(self, delays: Iterable[Delay]) -> Call[int]:
        """Set claimed messages aside until their time; how many were still this worker's."""
        args = [part for delay in delays for part in (delay.tag, _micro(delay.seconds), delay.message)]
        return Call(_script("delay"), (*self._held, *self._delayed), tuple(args), int)

    def give_back(self, tags: Sequence[str], where: Literal["first", "last"]) -> Call[int]:
        """Put claimed messages back into their queues; how many were still this worker's."""
        return Call(_script("give_back"), (*self._held, *self._woken), (self.prefix, where, *tags), int)

    def heartbeat(self, tags: Sequence[str]) -> Call[list[str]]:
        """Say that these are still being worked on; returns those that were restored meanwhile."""
        return Call(_script("heartbeat"), (self._key(self.keys.unacked_index),), tuple(tags), _texts)

    def sweep(self, every: float, timeout: float, most: int) -> Call[Swept]:
        """Bring back what is due, and what dead workers have left, if that is this caller's turn."""
        keys = (self._key(self.keys.sweep), *self._delayed, *self._held, *self._woken)
        return Call(_script("sweep"), keys, (self.prefix, _micro(every), _micro(timeout), most), _swept)

    def find_unannounced(self, lists: Iterable[str]) -> Call[int]:
        """Look whether lists, by their keys, hold messages that nobody has announced; how many did."""
        return Call(_script("scout"), (*self._woken, *lists), (self.prefix,), int)

    def forget_delayed(self, tags: Sequence[str]) -> Call[int]:
        """Drop delayed messages; how many there were."""
        return Call(_script("forget_delayed"), self._delayed, tuple(tags), int)

    def bury(self, tag: str, reason: str) -> Call[str]:
        """Set a claimed message aside that cannot be read; its id in the dead list."""
        keys = (*self._held, self._key(self.keys.dead))
        return Call(_script("bury"), keys, (tag, reason, *_KEPT), _text)

    def add_dead_letter(self, name: str, reason: str, message: str) -> Call[str]:
        """Add a message to the dead list that is in no list here; its id."""
        args = (name, reason, message, *_KEPT)
        return Call(_script("entomb"), (self._key(self.keys.dead),), args, _text)

    def replay(self, ids: Sequence[str]) -> Call[int]:
        """Put dead messages back into their queues; how many there were."""
        return Call(_script("replay"), (self._key(self.keys.dead), *self._woken), (self.prefix, *ids), int)


def broker_url(settings: Settings) -> str | None:
    """Where the Redis server is that messages are in; None where the broker is not on Redis."""
    if settings.broker_url is None:
        return server_url(settings)
    return settings.broker_url if settings.broker_url.startswith("redis") else None


def _script(name: str) -> Any:
    return load(f"workers/transport/lua/{name}.lua")


def _micro(seconds: float) -> int:
    return max(0, round(seconds * MICRO))


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
    return Swept(bool(mine), next_in / MICRO, due, restored)
