"""The dashboard and the alerts use metrics and labels that exist."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry, generate_latest

from limits.snapshot import BucketState, BudgetState, CircuitState, DimensionState, Snapshot
from tasks.batches.batch import Batch
from tasks.monitoring import metrics
from tasks.monitoring.costs import Spent
from tasks.monitoring.labels import Labels
from tasks.monitoring.snapshot import SystemSnapshot
from tasks.monitoring.worker_metrics import Meter
from tasks.schedules.runs import Record, Run
from tests.support.watching import Scrape
from workers.config.settings import Settings
from workers.transport.queues import Depth

DEPLOY = Path(__file__).resolve().parents[2] / "deploy"

#: A metric, and the matchers in braces after it.
_USED = re.compile(r"\b(overnight_[a-z_]+)\b(?:\{([^}]*)\})?")


def offered() -> dict[str, set[str]]:
    """The name of every sample that Overnight serves -> its labels."""
    limits = Snapshot(
        1,
        (BucketState("acme/0/small", (DimensionState("rpm", 1, 1.0, 1.0, 1.0),), 0, 0, 0, urgent=False),),
        (CircuitState("acme/small", "closed", 0, by_hand=False, calls=0, failures=0, retries_left=1.0),),
        {},
        (BudgetState("all", "2026-11", 1, 0, 0, 0),),
        0,
    )
    batch = Batch("batch_1", "nightly", "in.jsonl", "in_progress", 1, 1, "", 1.0, deadline=9.0)
    system = SystemSnapshot(1.0, (batch,), {"nightly": Depth(0, 0, 0)}, limits, (), workers=0)
    settings = Settings.model_validate(
        {
            "providers": {"acme": {"api": "openai", "base_url": "http://127.0.0.1"}},
            "workflows": {"nightly": {}},
            "schedules": {"night": {"workflow": "nightly", "cron": "0 2 * * *", "input": "in.jsonl"}},
        }
    )
    record = Record(1.0, {"2026-11-24T02:00Z": Run("2026-11-24T02:00Z", "ran")})
    families = [
        *metrics.queues(system, Labels()),
        *metrics.batches(system),
        *metrics.blockers(system, Labels()),
        *metrics.quotas(limits),
        *metrics.circuits(limits, settings),
        *metrics.money(limits),
        *metrics.counters({("nightly", "acme", "small"): Spent()}),
        *metrics.schedules({"night": record}, settings, 1.0, led=True),
    ]
    found = {sample.name: set(sample.labels) for family in families for sample in family.samples}
    registry = CollectorRegistry()
    meter = Meter(registry)
    meter.admissions.labels("nightly", "denied", "rpm")
    meter.calls.labels("acme", "small", "ok")
    meter.jobs.labels("nightly", "completed")
    meter.snoozes.labels("nightly")
    served = Scrape(generate_latest(registry).decode())
    found |= {sample.name: set(sample.labels) for sample in served.samples}
    return found | {"overnight_up": set()}


def dashboard() -> list[str]:
    found: dict[str, Any] = json.loads((DEPLOY / "grafana/dashboards/overnight.json").read_text())
    expressions = [target["expr"] for panel in found["panels"] for target in panel.get("targets", [])]
    assert len(expressions) > 20
    return expressions + [
        variable["definition"] for variable in found["templating"]["list"] if "definition" in variable
    ]


def alerts() -> list[str]:
    text = (DEPLOY / "prometheus/alerts.yml").read_text()
    expressions = re.findall(r"expr: (?:\|\n((?:          .*\n)+)|(.*)\n)", text)
    found = [block or line for block, line in expressions]
    assert len(found) == text.count("- alert:") > 5
    return found


@pytest.mark.parametrize("expression", [*dashboard(), *alerts()])
def test_every_metric_in_use_is_served(expression: str) -> None:
    metrics_offered = offered()
    used = _USED.findall(expression)
    assert used, expression
    for name, matchers in used:
        assert name in metrics_offered, f"{name} is not served"
        labels = set(re.findall(r"([a-z_]+)\s*(?:=~|!~|!=|=)", matchers or ""))
        assert labels <= metrics_offered[name], f"{name} has no {labels - metrics_offered[name]}"
    grouped = set(re.findall(r"[a-z_]+", " ".join(re.findall(r"by \(([^)]*)\)", expression))))
    everywhere = set().union(*(metrics_offered[name] for name, _ in used))
    assert grouped <= everywhere, f"no metric of these has {grouped - everywhere}"


def test_every_metric_is_in_use() -> None:
    """A metric without a use is not served, except these few for further analysis."""
    named = {name for expression in (*dashboard(), *alerts()) for name, _ in _USED.findall(expression)}
    unseen = {name for name in offered() if name not in named}
    kept = {
        *("overnight_quota_limit", "overnight_calls_in_flight_limit"),
        *("overnight_snoozes_total", "overnight_call_seconds_sum"),
        *("overnight_schedule_ran_timestamp_seconds", "overnight_schedule_next_timestamp_seconds"),
    }
    assert {name for name in unseen if not name.endswith("_created")} == kept
