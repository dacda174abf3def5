"""One snapshot of the system for everyone who looks: many open browsers cost Redis no more than one."""

import logging
import re
import threading
import time
from dataclasses import replace
from typing import Any, Final

import redis

from limits.errors import ServerUnavailable
from tasks.batches.store import Store
from tasks.monitoring.snapshot import SystemSnapshot, read
from tasks.monitoring.throughput import Throughput
from workers.config.settings import Settings

log = logging.getLogger(__name__)

#: Seconds for which a snapshot is reused.
FRESH: Final = 1.0

#: Seconds between snapshots while no page is open, to measure throughput.
EVERY: Final = 5.0

#: Seconds for which the reason of a job's snooze says what its workflow waits for.
REASON_COUNTS: Final = 30.0

#: Workflows of which a reason is kept.
MOST_REASONS: Final = 1_000

_WAIT: Final = re.compile(r"waits [\d.]+ s: ")


class Watch:
    """Takes snapshots in the callers' threads, one at a time. `run` takes them while no page is open."""

    def __init__(self, store: Store, settings: Settings) -> None:
        self.store = store
        self.settings = settings
        self.throughput = Throughput()
        self.lock = threading.Lock()
        self.system: SystemSnapshot | None = None
        self.read_at = 0.0
        self.stopping = threading.Event()
        self.reasons: dict[str, tuple[float, str]] = {}

    def event(self, state: Any, event: dict[str, Any]) -> None:
        """Keep the reason of a snooze. Celery's state calls this with each event (`event_callback`)."""
        del state
        workflow = event.get("workflow")
        if event.get("type") != "task-retried" or not isinstance(workflow, str):
            return
        now = time.monotonic()
        if len(self.reasons) >= MOST_REASONS and workflow not in self.reasons:
            self.reasons = {name: kept for name, kept in self.reasons.items() if now - kept[0] < REASON_COUNTS}
        if len(self.reasons) < MOST_REASONS or workflow in self.reasons:
            self.reasons[workflow] = (now, _WAIT.sub("", str(event.get("exception", "")), count=1))

    def look(self) -> SystemSnapshot:
        """The snapshot as of now. Raises redis.RedisError or ServerUnavailable if the server does not answer."""
        with self.lock:
            if self.system is None or time.monotonic() - self.read_at >= FRESH:
                system = read(self.store, self.settings)
                for batch in system.batches:
                    self.throughput.record(batch.id, batch.done, system.at)
                self.throughput.keep(batch.id for batch in system.batches)
                rates = {batch.id: self.throughput.per_second(batch.id) for batch in system.batches}
                self.read_at = now = time.monotonic()
                recent = list(self.reasons.items())
                reasons = {workflow: words for workflow, (at, words) in recent if now - at < REASON_COUNTS}
                self.system = replace(system, rates=rates, reasons=reasons)
            return self.system

    def run(self) -> None:
        """Take a snapshot every few seconds, until `stopping` is set."""
        while not self.stopping.wait(EVERY):
            try:
                self.look()
            except (redis.RedisError, ServerUnavailable) as exc:
                log.debug("no snapshot: %s", exc)  # the pages report it
            except Exception:
                log.exception("no snapshot; trying again in %g s", EVERY)
