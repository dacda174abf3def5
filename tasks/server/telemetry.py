"""Reports a server's live calls: metrics and traces, as a worker's, and the calls in flight for Flower.

Metrics and traces are enabled by the same variables as a worker's (tasks/monitoring/setup.py).
"""

import asyncio
import logging
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import redis

from tasks.jobs import hooks, trace_context
from tasks.monitoring import live_calls, setup
from tasks.server.resources import Resources

log = logging.getLogger(__name__)


class InFlight(hooks.Listener):
    """Counts the live calls in flight by workflow."""

    def __init__(self) -> None:
        self.calls: Counter[str] = Counter()

    def begun(self, delivery: Any) -> None:
        self.calls[delivery.job.workflow] += 1

    def left(self, delivery: Any, error: BaseException | None) -> None:
        del error
        self.calls[delivery.job.workflow] -= 1


@asynccontextmanager
async def observed(resources: Resources) -> AsyncIterator[None]:
    """Report the server's live calls while it runs."""
    in_flight = InFlight()
    hooks.listen(in_flight)
    _listen(resources)
    reporting = asyncio.create_task(_report(resources, in_flight.calls))
    try:
        yield
    finally:
        reporting.cancel()
        await asyncio.gather(reporting, return_exceptions=True)
        setup.at_the_end()


def _listen(resources: Resources) -> None:
    """Add the listeners that are enabled in the environment."""
    settings = resources.settings
    if setup.port() is not None:
        from tasks.monitoring.worker_metrics import Meter  # noqa: PLC0415 - what only a server with a port needs
        from tasks.server.live_metrics import LiveMeter  # noqa: PLC0415 - as above

        hooks.listen(Meter(settings=settings))
        hooks.listen(LiveMeter(settings))
        setup.after_the_start()
    if trace_context.traced():
        from tasks.jobs.trace_provider import start  # noqa: PLC0415 - only a traced server needs it
        from tasks.server.live_traces import LiveTracer  # noqa: PLC0415 - as above

        start("overnight-server")
        hooks.listen(LiveTracer(settings))


async def _report(resources: Resources, calls: Mapping[str, int]) -> None:
    """Report the calls in flight to Redis every few seconds."""
    runtime = resources.runtime
    keys, server = runtime.keys, runtime.owner
    try:
        while True:
            try:
                async with runtime.client.pipeline(transaction=False) as pipeline:
                    live_calls.report(pipeline, keys, server, calls)
                    pipeline.hgetall(keys.live_calls)
                    *_, reports = await pipeline.execute()
                if old := live_calls.stale(reports):
                    await runtime.client.hdel(keys.live_calls, *old)
            except (redis.RedisError, OSError) as error:
                log.debug("live calls could not be reported: %s", error)
            await asyncio.sleep(live_calls.EVERY)
    finally:
        await asyncio.wait_for(runtime.client.hdel(keys.live_calls, server), 1.0)
