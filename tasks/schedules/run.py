"""One night of a schedule: its input becomes a batch, whose identity is the schedule and the slot.

    python -m tasks.schedules.run SCHEDULE SLOT

A beat starts it as a process of its own, which ends when the night is noted: checking a million lines takes a minute
and prices a hundred megabytes, and a beat must neither stand still nor grow. However often it runs, and wherever, a
night is one batch.
"""

import logging
import sys
import time
import traceback
from dataclasses import replace

import redis

from limits.errors import LimitsError
from tasks.batches.input import InputError
from tasks.batches.sources import Source
from tasks.batches.store import open_store
from tasks.batches.submit import submit
from tasks.jobs.storage import StorageError
from tasks.schedules.calendar import from_name
from tasks.schedules.runs import AGAIN, Night, Schedules, calendar
from workers.config.settings import ScheduleSettings, Settings, load

log = logging.getLogger("overnight.night")


def run(settings: Settings, name: str, slot: str) -> Night:
    """Make the night's batch, or note why there is none; the night as it stands then.

    Raises the errors of a Redis server that cannot be reached: then nothing is noted, and the night is still due.
    """
    schedule = settings.schedules[name]
    store = open_store(settings)
    schedules = Schedules(store)
    now = time.time()
    before = schedules.record(name, schedule).nights.get(slot)
    night = before or Night(slot, since=now)
    if night.state == "ran":
        return night
    source = Source(schedule.source(calendar(schedule).local(from_name(slot))))
    try:
        source.check()
        batch, _ = submit(source, settings, store, workflow=schedule.workflow, slot=f"{name}\n{slot}")
        night = replace(night, state="ran", batch=batch.id, words="", at=now, again=0.0)
    except InputError as exc:
        night = replace(night, state="failed", words=str(exc), at=now, again=0.0)
    except (StorageError, OSError) as exc:
        missing = isinstance(exc, StorageError) and exc.missing
        night = _waits(night, schedule, now, f"{source.shown} is not there yet" if missing else str(exc))
    except (LimitsError, redis.RedisError):
        raise
    except Exception as exc:  # noqa: BLE001 - whatever it is, the night must not get lost without an alarm
        night = _waits(night, schedule, now, _defect(exc))
    schedules.note(name, night)
    if before is None or (night.state, night.words) != (before.state, before.words):
        tell(name, night)
    return night


def _defect(exc: Exception) -> str:
    """An error that nothing foresaw, without its own words: they may hold an input's credentials."""
    frame = traceback.extract_tb(exc.__traceback__)[-1]
    return f"{type(exc).__name__} in {frame.filename}, line {frame.lineno}"


def _waits(night: Night, schedule: ScheduleSettings, now: float, words: str) -> Night:
    """The night is tried again, or given up when it has waited for long enough."""
    since = night.since or now
    if now - max(since, night.due) >= schedule.input_wait:
        waited = f"given up after {schedule.input_wait / 3600:g} h"
        return replace(night, state="failed", words=f"{words}: {waited}", since=since, at=now, again=0.0)
    return replace(night, words=words, since=since, at=now, again=now + AGAIN)


def tell(name: str, night: Night) -> None:
    """Say how a night went, where a person or an alert reads it."""
    late = f", {(night.since - night.due) / 3600:.1f} h late, since nothing ran when it was due" if night.missed else ""
    which = f"schedule {name}, night {night.slot}"
    match night.state:
        case "ran":
            log.log(logging.WARNING if late else logging.INFO, "%s: %s%s", which, night.batch, late)
        case "waiting":
            log.warning("%s waits: %s", which, night.words)
        case _:
            log.error("%s %s: %s", which, night.state, night.words)


def main(name: str, slot: str) -> int:
    """The command; returns an exit status."""
    logging.basicConfig(level=logging.INFO, format="[%(asctime)s: %(levelname)s/night] %(message)s")
    try:
        run(load(None), name, slot)
    except (LimitsError, redis.RedisError) as exc:
        log.error("schedule %s, night %s is put off: %s", name, slot, exc)  # noqa: TRY400 - the words say it all
        return 3
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:3]))
