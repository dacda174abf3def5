"""A server's metrics of live calls, at the port that OVERNIGHT_METRICS_PORT names."""

import time
from typing import Any, Final

from prometheus_client import REGISTRY, CollectorRegistry, Gauge, Histogram

from tasks.jobs import hooks
from tasks.monitoring.labels import Labels
from tasks.server.errors import ApiError
from workers.config.settings import Settings

#: Seconds of a live call, from its arrival to its last byte.
_SECONDS: Final = (0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 20.0, 40.0, 60.0, 120.0, 300.0, 600.0)


class LiveMeter(hooks.Listener):
    """Counts live calls."""

    def __init__(self, settings: Settings, registry: CollectorRegistry = REGISTRY) -> None:
        self.workflows = Labels(settings.workflows)
        self.in_flight = Gauge(
            "overnight_live_calls_in_flight", "Live calls whose client waits", ("workflow",), registry=registry
        )
        self.seconds = Histogram(
            "overnight_live_call_seconds",
            "Seconds from a live call's arrival to its last byte; outcome: ok, the error's status, or gone",
            ("workflow", "outcome"),
            buckets=_SECONDS,
            registry=registry,
        )

    def begun(self, delivery: Any) -> None:
        """A live call has arrived."""
        self.in_flight.labels(self.workflows.of(delivery.job.workflow)).inc()

    def left(self, delivery: Any, error: BaseException | None) -> None:
        """A live call has been answered."""
        workflow = self.workflows.of(delivery.job.workflow)
        outcome = "ok" if error is None else str(error.status) if isinstance(error, ApiError) else "gone"
        self.in_flight.labels(workflow).dec()
        self.seconds.labels(workflow, outcome).observe(max(0.0, time.time() - delivery.at))
