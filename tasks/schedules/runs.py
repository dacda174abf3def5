"""Which runs of a schedule are due, and what became of each.

A run's record in Redis says whether it has happened. So a beat that is killed at the minute, or a second one beside it,
changes nothing. A run is *missed* if no beat was running when it was due: it is made up, and reported as late.

    (it is due) ─► waiting ─► ran        its batch has been submitted
                     │  ▲ └─► failed     its input was wrong, or did not come
                     └──┘     skipped    missed, and superseded by a later run with the same input
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

#: Seconds after which a run that no beat has looked at is missed.
LATE: Final = 600.0

#: Missed runs of one schedule that are made up, the newest ones, if each has its own input.
MADE_UP: Final = 7

#: Seconds until a run whose input is not there is tried again.
LOOK_AGAIN: Final = 60.0

#: Runs of a schedule that are remembered.
REMEMBERED: Final = 100

#: Seconds for which they are remembered: a yearly schedule knows its last run.
KEEP: Final = 400 * 86_400

State = Literal["waiting", "ran", "failed", "skipped"]


@dataclass(frozen=True, slots=True)
class Run:
    """One run of a schedule. Times are in seconds since the epoch, 0 if not yet.

    `scheduled_for` is its minute in UTC. `since` is when a beat first looked at it, `again` when it is tried next, `at`
    when its state was recorded. `words` is the reason if it has not run.
    """

    scheduled_for: str
    state: State = "waiting"
    batch: str = ""
    words: str = ""
    since: float = 0.0
    again: float = 0.0
    at: float = 0.0

    @property
    def final(self) -> bool:
        """Whether its state will not change on its own."""
        return self.state != "waiting"

    @property
    def due(self) -> float:
        """`scheduled_for` in seconds since the epoch."""
        return from_name(self.scheduled_for).timestamp()

    @property
    def missed(self) -> bool:
        """Whether no beat was running when it was due."""
        return self.since - self.due > LATE


@dataclass(frozen=True, slots=True)
class Record:
    """What Redis knows of a schedule. `runs` are by `scheduled_for`.

    Runs due up to `since` (seconds since the epoch) are dealt with; None if the schedule is new or its times changed.
    """

    since: float | None
    runs: dict[str, Run]

    @property
    def latest(self) -> Run | None:
        """The latest run."""
        return self.runs[max(self.runs)] if self.runs else None


@dataclass(frozen=True, slots=True)
class Due:
    """What to do now: `runs` to start, runs to skip, and the `since` of the next record."""

    runs: list[Run]
    skipped: list[Run]
    since: float


def calendar(settings: ScheduleSettings) -> Calendar:
    """When a schedule's runs are due."""
    return Calendar(settings.cron, settings.timezone)


def due(settings: ScheduleSettings, record: Record, now: float) -> Due:
    """Decide what is due: a pure function of the schedule, its record and the time.

    A schedule that is new, or whose times were changed, begins now. Of the missed runs, the newest `MADE_UP` start. If
    all runs have the same input, only the newest one starts, and none if a run on time is due as well. A waiting run
    stays due if the schedule's times change.
    """
    waiting = [run for run in record.runs.values() if not run.final and run.again <= now]
    if record.since is None:
        return Due(_in_order(waiting), [], now)
    begin, end = (datetime.fromtimestamp(moment, UTC) for moment in (record.since, now))
    passed = [name_of(moment) for moment in calendar(settings).between(begin, end)]
    fresh = [Run(scheduled_for, since=now) for scheduled_for in passed if scheduled_for not in record.runs]
    missed = [run for run in fresh if run.missed]
    on_time = [run for run in fresh if not run.missed]
    if settings.dated:
        made_up = missed[-MADE_UP:]
    else:
        made_up = missed[-1:] if not on_time else []
        on_time, missed = on_time[-1:], [*missed, *on_time[:-1]]
    skipped = [
        replace(run, state="skipped", at=now, words="no beat was running when it was due; a later run replaces it")
        for run in missed
        if run not in made_up
    ]
    finished = {run.scheduled_for for run in skipped}
    since = record.since
    for scheduled_for in passed:
        if scheduled_for not in finished and scheduled_for not in record.runs:
            break  # its process will record it, unless it is killed
        since = from_name(scheduled_for).timestamp()
    return Due(_in_order([*waiting, *made_up, *on_time]), skipped, since)


def _in_order(runs: Iterable[Run]) -> list[Run]:
    return sorted(runs, key=lambda run: run.scheduled_for)


class Schedules:
    """The schedules' records in Redis."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.keys = store.keys

    def record(self, name: str, settings: ScheduleSettings) -> Record:
        """Read what is known of a schedule."""
        key = self.keys.schedule(name)
        times, since = cast("list[bytes | None]", self.store.client.hmget(key, "times", "since"))
        unchanged = since and (times or b"").decode() == _times(settings)
        return Record(float(since) if since and unchanged else None, self._runs(key))

    def _runs(self, key: str) -> dict[str, Run]:
        found = cast("dict[bytes, bytes]", self.store.client.hgetall(key))
        texts = {name.decode(): text for name, text in found.items() if name not in {b"times", b"since"}}
        return {scheduled_for: _run(scheduled_for, text) for scheduled_for, text in texts.items()}

    def move(self, name: str, settings: ScheduleSettings, since: float, finished: Iterable[str]) -> None:
        """Record that runs due up to `since` are dealt with; forget the oldest of the `finished` ones."""
        key = self.keys.schedule(name)
        with self.store.client.pipeline(transaction=False) as pipeline:
            pipeline.sadd(self.keys.schedules, name)
            pipeline.hset(key, mapping={"times": _times(settings), "since": repr(since)})
            pipeline.expire(key, KEEP)
            old = [each for each in sorted(finished)[:-REMEMBERED] if from_name(each).timestamp() <= since]
            if old:
                pipeline.hdel(key, *old)
            pipeline.execute()

    def note(self, name: str, run: Run) -> bool:
        """Record a run's state. Returns False if it is a batch already, which it stays."""
        text = orjson.dumps({key: value for key, value in asdict(run).items() if value and key != "scheduled_for"})
        arguments = (run.scheduled_for, text, KEEP)
        return self.store.server.run(
            Call(load("tasks/schedules/lua/run.lua"), (self.keys.schedule(name),), arguments, bool)
        )

    def again(self, name: str, run: Run) -> None:
        """Repeat a run that failed or was skipped: it is waiting, as if it were due now."""
        self.note(name, Run(run.scheduled_for, since=time.time()))

    def retire(self, names: Iterable[str]) -> None:
        """Forget where other schedules than `names` stood. If one comes back, it has missed nothing."""
        known = {name.decode() for name in cast("set[bytes]", self.store.client.smembers(self.keys.schedules))}
        for name in known.difference(names):
            key = self.keys.schedule(name)
            waiting = [scheduled_for for scheduled_for, run in self._runs(key).items() if not run.final]
            self.store.client.hdel(key, "since", *waiting)
            self.store.client.srem(self.keys.schedules, name)

    def beat_leads(self) -> bool:
        """Whether a beat is running and leads."""
        return bool(self.store.client.exists(self.keys.redbeat + "lock"))


_FIELDS: Final = {field.name for field in fields(Run)}


def _times(settings: ScheduleSettings) -> str:
    """The settings that decide when runs are due."""
    return f"{settings.cron} {settings.timezone}"


def _run(scheduled_for: str, text: bytes) -> Run:
    known: dict[str, Any] = {key: value for key, value in orjson.loads(text).items() if key in _FIELDS}
    return Run(**{**known, "scheduled_for": scheduled_for})
