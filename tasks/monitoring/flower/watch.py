"""One reading of the system for all who look: pages that refresh in many browsers cost Redis no more than one."""

import logging
import re
import threading
import time
from dataclasses import replace
from typing import Any, Final

from tasks.batches.store import Store
from tasks.monitoring.snapshot import SystemSnapshot, read
from tasks.monitoring.throughput import Throughput
from workers.config.settings import Settings

log = logging.getLogger(__name__)

#: A reading is this many seconds old at most; and one is made this often although nobody looks, for the paces.
FRESH, EVERY = 1.0, 5.0

#: What a job was told when it was rescheduled says what its workflow waits for during so many seconds.
TOLD: Final = 30.0

#: Of how many workflows that is kept.
MOST_REASONS: Final = 1_000

_WAIT: Final = re.compile(r"waits [\d.]+ s: ")


class Watch:
    """Reads in the threads of those who ask, one at a time; `run` keeps the paces going."""

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
        """An event of a worker, as Celery's state hands it on (`event_callback`): keep why jobs wait."""
        del state
        workflow = event.get("workflow")
        if event.get("type") != "task-retried" or not isinstance(workflow, str):
            return
        now = time.monotonic()
        if len(self.reasons) >= MOST_REASONS and workflow not in self.reasons:
            self.reasons = {name: kept for name, kept in self.reasons.items() if now - kept[0] < TOLD}
        if len(self.reasons) < MOST_REASONS or workflow in self.reasons:
            self.reasons[workflow] = (now, _WAIT.sub("", str(event.get("exception", "")), count=1))

    def look(self) -> SystemSnapshot:
        """The view as of now. A redis.RedisError or ServerUnavailable where the server does not answer."""
        with self.lock:
            if self.system is None or time.monotonic() - self.read_at >= FRESH:
                system = read(self.store, self.settings)
                for batch in system.batches:
                    self.throughput.read(batch.id, batch.done, system.at)
                self.throughput.keep(batch.id for batch in system.batches)
                rates = {batch.id: self.throughput.per_second(batch.id) for batch in system.batches}
                self.read_at = now = time.monotonic()
                recent = list(self.reasons.items())
                reasons = {workflow: words for workflow, (at, words) in recent if now - at < TOLD}
                self.system = replace(system, rates=rates, reasons=reasons)
            return self.system

    def run(self) -> None:
        """Look now and then, until told to stop."""
        while not self.stopping.wait(EVERY):
            try:
                self.look()
            except Exception as exc:  # noqa: BLE001 - a page says what is wrong; the thread must not die of it
                log.debug("no reading: %s", exc)
