"""Set up a worker's metrics and traces, if its environment asks for them. Otherwise neither is imported.

OVERNIGHT_METRICS_PORT     the port of this worker's metrics; if it is taken, the next free one
OVERNIGHT_METRICS_ADDRESS  the interface, by default 127.0.0.1, since metrics ask for no password
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

PORT: Final = "OVERNIGHT_METRICS_PORT"
ADDRESS: Final = "OVERNIGHT_METRICS_ADDRESS"

#: The folder in which prometheus_client shares counts between processes; it reads the variable when it is imported.
_SHARED: Final = "PROMETHEUS_MULTIPROC_DIR"

#: Folders to remove when this worker ends.
_made: list[str] = []


def port() -> int | None:
    """The port that the environment names; None if it names none or is wrong."""
    named = os.environ.get(PORT, "").strip()
    if not named:
        return None
    if not named.isdigit() or int(named) > 65_535:  # noqa: PLR2004 - the highest port
        log.error("%s=%s is not a port (0 to 65535); this worker serves no metrics", PORT, named)
        return None
    return int(named)


def before_the_pool(sender: Any, **_: Any) -> None:
    """Add the listeners before the pool forks, so that its processes have them too."""
    if port() is not None:
        pool = get_implementation(sender.pool_cls)
        if pool.__module__ == "celery.concurrency.prefork" and _SHARED not in os.environ:
            folder = current_settings().data_dir
            folder.mkdir(parents=True, exist_ok=True)
            os.environ[_SHARED] = tempfile.mkdtemp(prefix="metrics-", dir=folder)
            _made.append(os.environ[_SHARED])
            # Celery's command line has already imported prometheus_client, since it lists Flower's commands.
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
    """Serve metrics, if a port is set."""
    first = port()
    if first is None:
        return
    from tasks.monitoring.worker_metrics import serve  # noqa: PLC0415 - as above

    address = os.environ.get(ADDRESS) or "127.0.0.1"
    found = serve(address, first)
    if found is None:
        log.error("no port from %d on is free at %s; this worker serves no metrics: set %s", first, address, PORT)
    else:
        log.info("metrics at http://%s:%d/metrics", address, found)


def at_the_end(**_: Any) -> None:
    """Send the remaining spans, and remove folders shared with the pool's processes."""
    if trace_context.traced():
        from tasks.jobs.trace_provider import stop  # noqa: PLC0415 - as above

        stop()
    for folder in _made:
        shutil.rmtree(folder, ignore_errors=True)


signals.worker_init.connect(before_the_pool, weak=False)
signals.worker_ready.connect(after_the_start, weak=False)
signals.worker_shutdown.connect(at_the_end, weak=False)
