"""Which listeners a worker has, by its environment: metrics of its own, traces. Neither is imported unless asked for.

OVERNIGHT_METRICS_PORT     the port of this worker's metrics; where it is taken, the next that is free
OVERNIGHT_METRICS_ADDRESS  the interface, 127.0.0.1 unless said otherwise: nobody is asked for a password
OTEL_…                     OpenTelemetry's own variables, such as OTEL_EXPORTER_OTLP_ENDPOINT
"""

import logging
import os
import shutil
import tempfile
from typing import Any, Final

from celery import signals
from celery.concurrency import get_implementation

from tasks.jobs import hooks, trace_context
from workers.config.current import current_settings

log = logging.getLogger(__name__)

PORT, ADDRESS = "OVERNIGHT_METRICS_PORT", "OVERNIGHT_METRICS_ADDRESS"

#: Where prometheus_client keeps the counts of several processes; it is read when that is imported.
_SHARED: Final = "PROMETHEUS_MULTIPROC_DIR"

_made: list[str] = []


def port() -> int | None:
    """The port that the environment asks for; None where it does not."""
    named = os.environ.get(PORT, "").strip()
    if not named:
        return None
    if not named.isdigit() or int(named) > 65_535:  # noqa: PLR2004 - the highest port
        log.error("%s=%s is no port; this worker serves no metrics", PORT, named)
        return None
    return int(named)


def before_the_pool(sender: Any, **_: Any) -> None:
    """Begin to listen, so that forked children do, too."""
    if port() is not None:
        pool = get_implementation(sender.pool_cls)
        if pool.__module__ == "celery.concurrency.prefork" and _SHARED not in os.environ:
            folder = current_settings().data_dir
            folder.mkdir(parents=True, exist_ok=True)
            os.environ[_SHARED] = tempfile.mkdtemp(prefix="metrics-", dir=folder)
            _made.append(os.environ[_SHARED])
            # Celery's command line has imported it already, with Flower, whose commands it lists.
            from prometheus_client import values  # noqa: PLC0415 - as below

            values.ValueClass = values.get_value_class()  # type: ignore[no-untyped-call]
        from tasks.monitoring.worker_metrics import Meter  # noqa: PLC0415 - what only a worker with a port needs

        hooks.listen(Meter(settings=current_settings()))
    if trace_context.traced():
        from tasks.jobs.trace_provider import start  # noqa: PLC0415 - only a traced worker needs it
        from tasks.monitoring.traces import Tracer  # noqa: PLC0415

        start("overnight-worker")
        hooks.listen(Tracer(current_settings()))


def after_the_start(**_: Any) -> None:
    """Serve, where a port is asked for."""
    first = port()
    if first is None:
        return
    from tasks.monitoring.worker_metrics import serve  # noqa: PLC0415 - as above

    address = os.environ.get(ADDRESS) or "127.0.0.1"
    found = serve(address, first)
    if found is None:
        log.error("no port from %d on is free at %s; this worker serves no metrics", first, address)
    else:
        log.info("metrics at http://%s:%d/metrics", address, found)


def at_the_end(**_: Any) -> None:
    """Send the spans that wait; remove what was shared with children."""
    if trace_context.traced():
        from tasks.jobs.trace_provider import stop  # noqa: PLC0415 - as above

        stop()
    for folder in _made:
        shutil.rmtree(folder, ignore_errors=True)


signals.worker_init.connect(before_the_pool, weak=False)
signals.worker_ready.connect(after_the_start, weak=False)
signals.worker_shutdown.connect(at_the_end, weak=False)
