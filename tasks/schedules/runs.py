"""Schedules: which nights are due, and how each has gone.

A night is a slot of a schedule. Its record, not the process that happens to be awake, says whether it has run: a beat
that is killed at the minute, or a second one that wakes up beside it, changes nothing. What nobody looked at when it
was due has been *missed*, since everything was down: it is made up, and said to be late.

    (slot passes) ─► waiting ─► ran        its batch has been submitted
                       │  ▲ └─► failed     its input was wrong, or did not come
                       └──┘     skipped    missed, and a later night has the same input
"""

import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields, replace
from datetime import UTC, datetime
from typing import Any, Final, Literal, cast

import orjson

from limits.client.scripts import Call, load
from tasks.batches.store import Store
from tasks.schedules.calendar import Calendar, from_name, name_of
from workers.config.settings import ScheduleSettings

#: Seconds after which a slot that nobody looked at has been missed.
LATE: Final = 600.0

#: At most so many missed nights are made up, the newest ones, where each has an input of its own.
MADE_UP: Final = 7

#: Seconds until a night whose input is not there is looked at again.
AGAIN: Final = 60.0

#: Nights of a schedule that are remembered, and for how many seconds.
REMEMBERED, KEEP = 100, 400 * 86_400

State = Literal["waiting", "ran", "failed", "skipped"]


@dataclass(frozen=True, slots=True)
class Night:
    """How a night stands. Times are in seconds since the epoch, 0 where not yet.

    `since` is when it was first looked at, `again` when it is to be looked at next, `at` when its state was noted.
    """

    slot: str
    state: State = "waiting"
    batch: str = ""
    words: str = ""
    since: float = 0.0
    again: float = 0.0
    at: float = 0.0

    @property
    def final(self) -> bool:
        """Whether nothing more will be done about it."""
        return self.state != "waiting"

    @property
    def due(self) -> float:
        """When its slot was, in seconds since the epoch."""
        return from_name(self.slot).timestamp()

    @property
    def missed(self) -> bool:
        """Whether nobody looked at it when it was due."""
        return self.since - self.due > LATE


@dataclass(frozen=True, slots=True)
class Record:
    """What is known of a schedule: slots up to `since` (seconds) are over; None where it is new or has changed."""

    since: float | None
    nights: dict[str, Night]

    @property
    def latest(self) -> Night | None:
        """The latest night that is known."""
        return self.nights[max(self.nights)] if self.nights else None


@dataclass(frozen=True, slots=True)
class Due:
    """What is to be done now: nights to run, nights that are skipped, and where to count from next time."""

    run: list[Night]
    skipped: list[Night]
    since: float


def calendar(settings: ScheduleSettings) -> Calendar:
    """When its nights are."""
    return Calendar(settings.cron, settings.timezone)


def due(settings: ScheduleSettings, record: Record, now: float) -> Due:
    """Decide what is due: a pure function of the schedule, what has been, and the time.

    A schedule that is new, or whose times were changed, begins now. Of the nights that were missed the newest
    `MADE_UP` run; if all nights have the same input, only the newest, and none if a night on time is due as well.
    A night that waits is due whatever the times are now: they may have changed since.
    """
    waiting = [night for night in record.nights.values() if not night.final and night.again <= now]
    if record.since is None:
        return Due(sorted(waiting, key=lambda night: night.slot), [], now)
    begin, end = (datetime.fromtimestamp(moment, UTC) for moment in (record.since, now))
    slots = [name_of(slot) for slot in calendar(settings).between(begin, end)]
    fresh = [Night(slot, since=now) for slot in slots if slot not in record.nights]
    missed = [night for night in fresh if night.missed]
    on_time = [night for night in fresh if not night.missed]
    if settings.dated:
        run = missed[-MADE_UP:]
    else:
        run = missed[-1:] if not on_time else []
        on_time, missed = on_time[-1:], [*missed, *on_time[:-1]]
    skipped = [
        replace(night, state="skipped", at=now, words="nothing ran when it was due, and a later night stands for it")
        for night in missed
        if night not in run
    ]
    over = {night.slot for night in skipped}
    since = record.since
    for slot in slots:
        if slot not in over and slot not in record.nights:
            break  # to be noted by its process, which may be killed
        since = from_name(slot).timestamp()
    return Due(sorted([*waiting, *run, *on_time], key=lambda night: night.slot), skipped, since)


class Schedules:
    """The records of a namespace's schedules."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.keys = store.keys

    def record(self, name: str, settings: ScheduleSettings) -> Record:
        """What is known of a schedule."""
        key = self.keys.schedule(name)
        times, since = cast("list[bytes | None]", self.store.client.hmget(key, "times", "since"))
        counts = since and (times or b"").decode() == _times(settings)
        return Record(float(since) if since and counts else None, self._nights(key))

    def _nights(self, key: str) -> dict[str, Night]:
        found = cast("dict[bytes, bytes]", self.store.client.hgetall(key))
        slots = {slot.decode(): text for slot, text in found.items() if slot not in {b"times", b"since"}}
        return {slot: _night(slot, text) for slot, text in slots.items()}

    def move(self, name: str, settings: ScheduleSettings, since: float, nights: Iterable[str]) -> None:
        """Count from `since`; forget the oldest of the `nights`, which are known and over."""
        key = self.keys.schedule(name)
        with self.store.client.pipeline(transaction=False) as pipeline:
            pipeline.sadd(self.keys.schedules, name)
            pipeline.hset(key, mapping={"times": _times(settings), "since": repr(since)})
            pipeline.expire(key, KEEP)
            old = [slot for slot in sorted(nights)[:-REMEMBERED] if from_name(slot).timestamp() <= since]
            if old:
                pipeline.hdel(key, *old)
            pipeline.execute()

    def note(self, name: str, night: Night) -> bool:
        """Note how a night stands; False where it is a batch already, which it stays."""
        text = orjson.dumps({key: value for key, value in asdict(night).items() if value and key != "slot"})
        key = self.keys.schedule(name)
        return self.store.server.run(Call(load("tasks/schedules/lua/run.lua"), (key,), (night.slot, text, KEEP), bool))

    def again(self, name: str, night: Night) -> None:
        """Run a night again that failed or was skipped: it waits, as if it were due now."""
        self.note(name, Night(night.slot, since=time.time()))

    def retire(self, names: Iterable[str]) -> None:
        """Only these are configured. Another one that comes back some day has missed nothing, and waits for nothing."""
        known = {name.decode() for name in cast("set[bytes]", self.store.client.smembers(self.keys.schedules))}
        for name in known.difference(names):
            key = self.keys.schedule(name)
            waiting = [slot for slot, night in self._nights(key).items() if not night.final]
            self.store.client.hdel(key, "since", *waiting)
            self.store.client.srem(self.keys.schedules, name)

    def beat_leads(self) -> bool:
        """Whether a beat is running that looks after them."""
        return bool(self.store.client.exists(self.keys.redbeat + "lock"))


_FIELDS: Final = {field.name for field in fields(Night)}


def _times(settings: ScheduleSettings) -> str:
    """What changes a schedule's slots."""
    return f"{settings.cron} {settings.timezone}"


def _night(slot: str, text: bytes) -> Night:
    known: dict[str, Any] = {key: value for key, value in orjson.loads(text).items() if key in _FIELDS}
    return Night(**{**known, "slot": slot})
