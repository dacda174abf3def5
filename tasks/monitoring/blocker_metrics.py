"""What stands still, as metrics: batches and workflows by what they wait for, workers, the clock."""

from collections.abc import Iterator

from prometheus_client.core import GaugeMetricFamily
from prometheus_client.metrics_core import Metric

from tasks.monitoring.blockers import Blockers
from tasks.monitoring.labels import Labels
from tasks.monitoring.snapshot import SystemSnapshot


def blockers(system: SystemSnapshot, labels: Labels) -> Iterator[Metric]:
    """What stands still and why, and what that may come from."""
    waits = GaugeMetricFamily(
        "overnight_held_up",
        "1 for a batch that stands still, or a workflow without one (batch is empty), by what it waits for",
        labels=("workflow", "batch", "reason"),
    )
    each = Blockers(system, system.workers)
    found = {(batch.workflow, batch.id, wait.kind) for batch in system.live if (wait := each.of_batch(batch)).stalled}
    live = {batch.workflow for batch in system.live}
    for name, depth in (system.queues or {}).items():
        if name not in live and (wait := each.of_workflow(name, depth)).stalled:
            found.add((labels.of(name), "", wait.kind))
    for names in sorted(found):
        waits.add_metric(names, 1)
    workers = GaugeMetricFamily("overnight_workers", "Workers that hand out jobs and write results")
    workers.add_metric([], system.workers or 0)
    lead = GaugeMetricFamily("overnight_clock_lead_seconds", "How far the limits' clock is ahead of the server's")
    lead.add_metric([], system.lead)
    yield from (waits, workers, lead)
