"""One run of a schedule: its input becomes a batch.

    python -m tasks.schedules.run SCHEDULE SCHEDULED_FOR

Beat starts it as a process of its own: checking a million lines takes a minute and a hundred megabytes, and beat must
neither block nor grow. The batch's id comes from the schedule and `SCHEDULED_FOR`, so a run is one batch, however often
and wherever this is started.
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
from tasks.schedules.runs import LOOK_AGAIN, Run, Schedules, calendar
from workers.config.settings import ScheduleSettings, Settings, load

log = logging.getLogger("overnight.schedules")


def make_batch(settings: Settings, name: str, scheduled_for: str) -> Run:
    """Make the run's batch, or record why there is none; returns the run as recorded.

    Raises a LimitsError or redis.RedisError if the Redis server is unreachable: nothing is recorded, and the run is
    still due.
    """
    schedule = settings.schedules[name]
    store = open_store(settings)
    schedules = Schedules(store)
    now = time.time()
    before = schedules.record(name, schedule).runs.get(scheduled_for)
    run = before or Run(scheduled_for, since=now)
    if run.state == "ran":
        return run
    source = Source(schedule.source(calendar(schedule).local(from_name(scheduled_for))))
    try:
        source.check()
        batch, _ = submit(source, settings, store, workflow=schedule.workflow, scheduled_run=f"{name}\n{scheduled_for}")
        run = replace(run, state="ran", batch=batch.id, words="", at=now, again=0.0)
    except InputError as exc:
        run = replace(run, state="failed", words=str(exc), at=now, again=0.0)
    except (StorageError, OSError) as exc:
        missing = isinstance(exc, StorageError) and exc.missing
        run = _waiting(run, schedule, now, f"{source.shown} is not there yet" if missing else str(exc))
    except (LimitsError, redis.RedisError):
        raise
    except Exception as exc:  # noqa: BLE001 - no run may get lost; a traceback may contain an input's credentials
        run = _waiting(run, schedule, now, _defect(exc))
    schedules.note(name, run)
    if before is None or (run.state, run.words) != (before.state, before.words):
        report(name, run)
    return run


def _defect(exc: Exception) -> str:
    """Where an unforeseen error came from. Without its message, which may contain an input's credentials."""
    frame = traceback.extract_tb(exc.__traceback__)[-1]
    return f"{type(exc).__name__} in {frame.filename}, line {frame.lineno}"


def _waiting(run: Run, schedule: ScheduleSettings, now: float, words: str) -> Run:
    """The run, to be tried again; failed if it has waited for `input_wait`."""
    since = run.since or now
    if now - max(since, run.due) >= schedule.input_wait:
        waited = f"given up after {schedule.input_wait / 3600:g} h"
        return replace(run, state="failed", words=f"{words}: {waited}", since=since, at=now, again=0.0)
    return replace(run, words=words, since=since, at=now, again=now + LOOK_AGAIN)


def report(name: str, run: Run) -> None:
    """Log a run's state, for a person or an alert to read."""
    late = f", {(run.since - run.due) / 3600:.1f} h late: no beat was running when it was due" if run.missed else ""
    which = f"schedule {name}, run {run.scheduled_for}"
    match run.state:
        case "ran":
            log.log(logging.WARNING if late else logging.INFO, "%s: submitted %s%s", which, run.batch, late)
        case "waiting":
            log.warning("%s is waiting: %s", which, run.words)
        case _:
            log.error("%s %s: %s", which, run.state, run.words)


def main(name: str, scheduled_for: str) -> int:
    """Run the command; returns its exit status."""
    logging.basicConfig(level=logging.INFO, format="[%(asctime)s: %(levelname)s/schedules] %(message)s")
    try:
        make_batch(load(None), name, scheduled_for)
    except (LimitsError, redis.RedisError) as exc:
        log.error("schedule %s, run %s will be tried again: %s", name, scheduled_for, exc)  # noqa: TRY400 - no trace
        return 3
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:3]))
