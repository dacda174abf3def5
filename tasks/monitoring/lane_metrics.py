"""Metrics of the lanes: jobs and chunks in the batch lane, answers by lane, and what the cheaper ones have saved."""

import time
from collections import Counter
from collections.abc import Iterator, Mapping

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric

from limits.budget import NANO
from tasks.batches import takeover
from tasks.monitoring.costs import Spent
from tasks.monitoring.snapshot import SystemSnapshot


def lanes(system: SystemSnapshot) -> Iterator[Metric]:
    """The live batches that may use a cheaper lane."""
    jobs = GaugeMetricFamily("overnight_lane_jobs", "Jobs in a lane now", labels=("workflow", "lane"))
    chunks = GaugeMetricFamily(
        "overnight_lane_chunks", "Chunks of live batches", labels=("workflow", "provider", "state")
    )
    inside: Counter[tuple[str, str]] = Counter()
    found: Counter[tuple[str, str, str]] = Counter()
    for batch in system.live:
        if batch.lanes:
            flex = batch.has_flex_lane and time.time() < takeover.last_call(batch)
            inside[batch.workflow, "flex" if flex else "live"] += batch.out
        if batch.has_batch_lane:
            inside[batch.workflow, "batch"] += batch.offloaded
            for chunk in system.chunks.get(batch.id, ()):
                found[batch.workflow, chunk.provider, chunk.state] += 1
    for names, count in sorted(inside.items()):
        jobs.add_metric(names, count)
    for labels, count in sorted(found.items()):
        chunks.add_metric(labels, count)
    yield from (jobs, chunks)


def saved(month: Mapping[tuple[str, str, str], Spent]) -> Iterator[Metric]:
    """Answers by lane, and what the cheaper lanes have saved, since the first of the month."""
    names = ("workflow", "provider", "model")
    calls = CounterMetricFamily("overnight_lane_calls", "Answers by lane", labels=(*names, "lane"))
    money = CounterMetricFamily("overnight_lane_saved_dollars", "Saved against the live price", labels=names)
    for row, sums in month.items():
        calls.add_metric([*row, "batch"], sums.batch_calls)
        calls.add_metric([*row, "flex"], sums.flex_calls)
        calls.add_metric([*row, "live"], sums.calls - sums.batch_calls - sums.flex_calls)
        money.add_metric(row, (sums.batch_saved + sums.flex_saved) / NANO)
    yield from (calls, money)
