"""Metrics of blockers: stalled batches and workflows, workers, and the Redis server's clock."""

from collections.abc import Iterator

from prometheus_client.core import GaugeMetricFamily
from prometheus_client.metrics_core import Metric

from tasks.monitoring.blockers import Blockers
from tasks.monitoring.labels import Labels
from tasks.monitoring.snapshot import SystemSnapshot


def blockers(system: SystemSnapshot, labels: Labels) -> Iterator[Metric]:
    """What is stalled and by which blocker, and two causes that an alert can name."""
    waits = GaugeMetricFamily(
        "overnight_held_up",
        "1 for a stalled batch, or for a workflow with stalled single jobs (batch is empty), by its blocker",
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
    workers = GaugeMetricFamily("overnight_workers", "Workers that feed batches and write results")
    workers.add_metric([], system.workers or 0)
    lead = GaugeMetricFamily("overnight_clock_lead_seconds", "Seconds by which limits are ahead of the server's clock")
    lead.add_metric([], system.lead)
    yield from (waits, workers, lead)
