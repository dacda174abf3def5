"""Beat: the process that looks after the schedules. Any number may run; one leads, and another follows it.

RedBeat keeps the lead as a lock in Redis, which a killed leader loses after 25 seconds, and serves entries that an
application adds to it. The nights of [schedules.*] need no message and no worker: what is due is read from their
records (schedules/runs.py) at every round, and each night is made a batch by a process of its own (tasks/run.py).
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
from tasks.schedules.run import tell
from tasks.schedules.runs import Schedules, calendar, due
from workers import child_process, heartbeat
from workers.config.current import current_settings

log = logging.getLogger(__name__)

#: Seconds until the next round of a beat that does not lead, that cannot reach its server, and whose round failed.
STAND_BY, SERVER_AWAY, AFTER_FAILURE = 2.0, 1.0, 5.0

#: Nights that become batches at the same time, and seconds that they get to finish when beat stops.
AT_ONCE, STOP = 4, 20.0

#: Seconds between two tries of a night whose process could not note it.
PUT_OFF: Final = 15.0

# RedBeat waits for its lock before the first round, without end, deaf to the server's going away, and without a
# heartbeat. Here a round is what asks for it.
beat_init.disconnect(schedulers.acquire_distributed_beat_lock)


class NightScheduler(schedulers.RedBeatScheduler):  # type: ignore[misc]  # RedBeat has no types
    """Celery beat's scheduler: RedBeat's, and the nights."""

    lock: Lock | None

    def __init__(self, app: Any, **options: Any) -> None:
        super().__init__(app, **options)
        self.settings = current_settings()
        self.schedules = Schedules(open_store(self.settings))
        self.running: dict[tuple[str, str], subprocess.Popen[bytes]] = {}
        self.put_off: dict[tuple[str, str], float] = {}

    def tick(self, *arguments: Any, **options: Any) -> float:
        """One round; returns the seconds until the next."""
        heartbeat.touch()
        try:
            if not self._leads():
                return STAND_BY
            seconds = float(super().tick(*arguments, **options))
            return min(seconds, self.nights(time.time()))
        except LockError:
            log.warning("another beat leads now")
            self.lock = None
            return STAND_BY
        except (redis.RedisError, LimitsError, OSError) as exc:
            log.warning("no schedules while the server is unreachable: %s", exc)
            return SERVER_AWAY
        except Exception:
            log.exception("a round of the schedules failed, and another comes in %g s", AFTER_FAILURE)
            return AFTER_FAILURE

    def _leads(self) -> bool:
        """Whether this beat leads; it does from now on where no other does."""
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

    def nights(self, now: float) -> float:
        """Start what is due; returns the seconds until the next night or the next round, whichever is sooner."""
        self._reap()
        seconds = float(self.max_interval)
        for name, settings in self.settings.schedules.items():
            record = self.schedules.record(name, settings)
            found = due(settings, record, now)
            for night in found.skipped:
                if self.schedules.note(name, night):
                    tell(name, night)
            if found.since != record.since:
                over = [slot for slot, night in record.nights.items() if night.final]
                self.schedules.move(name, settings, found.since, over)
            for night in found.run:
                self._start(name, night.slot)
            moment = datetime.fromtimestamp(now, UTC)
            seconds = min(seconds, (calendar(settings).next(moment) - moment).total_seconds())
        return max(0.05, seconds)

    def _start(self, name: str, slot: str) -> None:
        """Begin a night, unless it has begun, or too much goes on."""
        if (name, slot) in self.running or len(self.running) >= AT_ONCE:
            return
        if self.put_off.get((name, slot), 0.0) > time.monotonic():
            return
        self.running[name, slot] = subprocess.Popen(
            child_process.command("tasks.schedules.run", name, slot),
            env=child_process.environment(),
            stdin=subprocess.DEVNULL,
        )

    def _reap(self) -> None:
        for key, process in list(self.running.items()):
            if process.poll() is not None:
                del self.running[key]
                if process.returncode:
                    self.put_off[key] = time.monotonic() + PUT_OFF

    def close(self) -> None:
        """Let the nights finish that have begun, and give the lead away."""
        ends = time.monotonic() + STOP
        for process in self.running.values():
            try:
                process.wait(max(0.0, ends - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.terminate()
        self.running.clear()
        with suppress(redis.RedisError):
            super().close()
