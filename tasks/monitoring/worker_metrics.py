"""What one worker counts by itself: admissions and denials, the calls' latencies, jobs and their waits.

Served on a port of the worker's own where OVERNIGHT_METRICS_PORT (or `--metrics-port`) asks for it; else nothing is
counted. These counts begin with the process. What must agree with the provider's bill is the ledger's (metrics.py).
"""

import logging
import os
from typing import Any, Final

from prometheus_client import REGISTRY, CollectorRegistry, Counter, Histogram, start_http_server
from prometheus_client.multiprocess import MultiProcessCollector

from limits.reservation import Admitted, Denied
from limits.reservation import Answer as Admission
from tasks.jobs.attempt import Attempt
from tasks.jobs.hooks import Delivery, Listener
from tasks.jobs.store import Outcome
from tasks.monitoring.labels import OTHER, Labels
from tasks.monitoring.limits import targets
from workers.config.settings import Settings
from workers.providers.answer import Answer
from workers.providers.codes import listed
from workers.providers.errors import ProviderError
from workers.request import Snooze

log = logging.getLogger(__name__)

#: Where prometheus_client keeps the counts of several processes; listening.py sets it for prefork's.
SHARED: Final = "PROMETHEUS_MULTIPROC_DIR"

#: So many ports are tried from the first on: the worker processes of one machine share an environment.
PORTS: Final = 64

#: Seconds of a call: models answer within tenths of a second, or think for minutes.
_SECONDS: Final = (0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 20.0, 40.0, 60.0, 120.0, 300.0, 600.0)


class Meter(Listener):
    """Counts what its worker's jobs tell."""

    def __init__(self, registry: CollectorRegistry = REGISTRY, settings: Settings | None = None) -> None:
        settings = settings or Settings()
        self.workflows = Labels(settings.workflows)
        self.models = Labels([f"{provider}/{model}" for provider, model in targets(settings)])
        target = ("provider", "model")
        self.admissions = Counter(
            "overnight_admissions_total",
            "Answers of the admission; the reason of a denial, and of an admission that had to wait a moment",
            ("workflow", "answer", "reason"),
            registry=registry,
        )
        self.calls = Histogram(
            "overnight_call_seconds",
            "From the request's departure to the last byte, or to the failure; outcome: ok, the error's code, or other",
            (*target, "outcome"),
            buckets=_SECONDS,
            registry=registry,
        )
        self.jobs = Counter(
            "overnight_jobs_total", "Jobs that ended in this worker", ("workflow", "outcome"), registry=registry
        )
        self.snoozes = Counter(
            "overnight_snoozes_total", "Deliveries whose job went back to wait", ("workflow",), registry=registry
        )
        self._children: dict[tuple[str, ...], Any] = {}

    def admitted(self, delivery: Delivery, attempt: Attempt, answer: Admission) -> None:
        """An admission's answer."""
        del attempt
        match answer:
            case Admitted():
                name, reason = "admitted", "later" if answer.wait > 0 else ""
            case Denied():
                name, reason = "denied", answer.reason
            case _:
                name, reason = "impossible", answer.dimension
        self._child(self.admissions, self._workflow(delivery), name, reason).inc()

    def called(self, delivery: Delivery, attempt: Attempt, seconds: float, end: Answer | ProviderError) -> None:
        """A call's end; with its trace as the exemplar where there is one."""
        outcome = "ok" if isinstance(end, Answer) else listed(end.code)
        exemplar = {"trace_id": delivery.trace} if delivery.trace else None
        route = attempt.route
        model = route.model if self.models.has(route.target) else OTHER
        self._child(self.calls, route.provider, model, outcome).observe(seconds, exemplar)

    def ended(self, delivery: Delivery, outcome: Outcome) -> None:
        """A job's end."""
        self._child(self.jobs, self._workflow(delivery), "completed" if outcome.ok else "failed").inc()

    def left(self, delivery: Delivery, error: BaseException | None) -> None:
        """A delivery's end."""
        if isinstance(error, Snooze):
            self._child(self.snoozes, self._workflow(delivery)).inc()

    def _workflow(self, delivery: Delivery) -> str:
        return self.workflows.of(delivery.job.workflow)

    def _child(self, metric: Counter | Histogram, *labels: str) -> Any:
        """A metric's child, found without the lock and the checks of `labels()`."""
        name = (metric._name, *labels)  # noqa: SLF001 - has no public name
        found = self._children.get(name)
        if found is None:
            found = self._children[name] = metric.labels(*labels)
        return found


def serve(address: str, port: int) -> int | None:
    """Serve this worker's counts at `port`, or at the next that is free; returns it, None where none is."""
    registry = REGISTRY
    if SHARED in os.environ:
        registry = CollectorRegistry()
        MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
    for each in range(port, port + PORTS) if port else (0,):
        try:
            server, _ = start_http_server(each, address, registry)
        except OSError:
            continue
        return int(server.server_port)
    return None
