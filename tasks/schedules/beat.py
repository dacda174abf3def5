"""Beat: the process that starts scheduled runs. Any number may run: one leads, and another takes over if it dies.

RedBeat keeps the lead as a lock in Redis, which a killed leader loses after 25 seconds. It also serves entries that an
application adds. The runs of [schedules.*] need no message and no worker: each round reads from their records
(schedules/runs.py) what is due, and a process of its own makes each run a batch (schedules/run.py).
"""

import logging
import subprocess
import time
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any, Final

import redis
from celery.signals import beat_init
from redbeat import schedulers
from redis.exceptions import LockError
from redis.lock import Lock

from limits.errors import LimitsError
from tasks.batches.store import open_store
from tasks.schedules.run import report
from tasks.schedules.runs import Schedules, calendar, due
from workers import child_process, heartbeat
from workers.config.current import current_settings

log = logging.getLogger(__name__)

#: Seconds until a beat that does not lead asks for the lead again.
STAND_BY: Final = 2.0

#: Seconds until the next round if the Redis server is unreachable.
SERVER_AWAY: Final = 1.0

#: Seconds until the next round if one failed.
AFTER_FAILURE: Final = 5.0

#: Processes that make runs batches at the same time: each may take a hundred megabytes.
AT_ONCE: Final = 4

#: Seconds that these processes get to finish when beat stops.
STOP: Final = 20.0

#: Seconds until a run is tried again if its process could not record it.
RETRY_AFTER: Final = 15.0

# RedBeat waits for its lock before the first round: without end, without noticing that the server is gone, and without
# a heartbeat. Here each round asks for it.
beat_init.disconnect(schedulers.acquire_distributed_beat_lock)


class OvernightScheduler(schedulers.RedBeatScheduler):  # type: ignore[misc]  # RedBeat has no types
    """Celery beat's scheduler: RedBeat's entries, and the runs of [schedules.*]."""

    lock: Lock | None

    def __init__(self, app: Any, **options: Any) -> None:
        super().__init__(app, **options)
        self.settings = current_settings()
        self.schedules = Schedules(open_store(self.settings))
        self.running: dict[tuple[str, str], subprocess.Popen[bytes]] = {}
        self.not_before: dict[tuple[str, str], float] = {}

    def tick(self, *arguments: Any, **options: Any) -> float:
        """One round; returns the seconds until the next."""
        heartbeat.touch()
        try:
            if not self._leads():
                return STAND_BY
            seconds = float(super().tick(*arguments, **options))
            return min(seconds, self.start_due(time.time()))
        except LockError:
            log.warning("another beat leads now; this one stands by")
            self.lock = None
            return STAND_BY
        except (redis.RedisError, LimitsError, OSError) as exc:
            log.warning("no schedule runs while the Redis server is unreachable: %s", exc)
            return SERVER_AWAY
        except Exception:
            log.exception("a round of the schedules failed; the next one is in %g s", AFTER_FAILURE)
            return AFTER_FAILURE

    def _leads(self) -> bool:
        """Whether this beat leads. Takes the lead if no other beat has it."""
        if self.lock is not None:
            return True
        lock = schedulers.get_redis(self.app).lock(self.lock_key, timeout=self.lock_timeout, blocking=False)
        lock.lua_extend = schedulers.get_redis(self.app).register_script(schedulers.LUA_EXTEND_TO_SCRIPT)
        if not lock.acquire():
            return False
        self.lock = lock
        log.info("this beat leads")
        self.schedules.retire(self.settings.schedules)
        return True

    def start_due(self, now: float) -> float:
        """Start the runs that are due; returns the seconds until the next run or round, whichever is sooner."""
        self._reap()
        seconds = float(self.max_interval)
        for name, settings in self.settings.schedules.items():
            record = self.schedules.record(name, settings)
            found = due(settings, record, now)
            for run in found.skipped:
                if self.schedules.note(name, run):
                    report(name, run)
            if found.since != record.since:
                finished = [scheduled_for for scheduled_for, run in record.runs.items() if run.final]
                self.schedules.move(name, settings, found.since, finished)
            for run in found.runs:
                self._start(name, run.scheduled_for)
            moment = datetime.fromtimestamp(now, UTC)
            seconds = min(seconds, (calendar(settings).next(moment) - moment).total_seconds())
        return max(0.05, seconds)

    def _start(self, name: str, scheduled_for: str) -> None:
        """Start a run's process, unless it is running already or `AT_ONCE` others are."""
        if (name, scheduled_for) in self.running or len(self.running) >= AT_ONCE:
            return
        if self.not_before.get((name, scheduled_for), 0.0) > time.monotonic():
            return
        self.running[name, scheduled_for] = subprocess.Popen(
            child_process.command("tasks.schedules.run", name, scheduled_for),
            env=child_process.environment(),
            stdin=subprocess.DEVNULL,
        )

    def _reap(self) -> None:
        for key, process in list(self.running.items()):
            if process.poll() is not None:
                del self.running[key]
                if process.returncode:
                    self.not_before[key] = time.monotonic() + RETRY_AFTER

    def close(self) -> None:
        """Let the runs that have started finish, and release the lead."""
        ends = time.monotonic() + STOP
        for process in self.running.values():
            try:
                process.wait(max(0.0, ends - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.terminate()
        self.running.clear()
        with suppress(redis.RedisError):
            super().close()
