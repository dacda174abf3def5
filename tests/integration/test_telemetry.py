"""A worker's own metrics, and a job's trace from its submission to its settlement."""

import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.simulator import Simulator
from tests.support.collector import Collector
from tests.support.site import KEY, Site, job, jobs, wait_for
from tests.support.watching import Scrape, ask

pytestmark = pytest.mark.long

SECRET = "the-marked-prompt-of-a-customer"

FAILURES = [{"mode": "429", "times": 2, "retry_after": "1"}, {"mode": "400", "job": "refuse", "times": 1}]


class Told:
    """What a site's worker has reported about one batch."""

    def __init__(self, simulator: Simulator, collector: Collector, scrape: Scrape, exemplars: str) -> None:
        self.simulator, self.collector, self.scrape, self.exemplars = simulator, collector, scrape, exemplars


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Told]:
    folder = tmp_path_factory.mktemp("telemetry")
    with (
        Collector() as collector,
        Simulator(answer_tokens=7, failures=FAILURES) as simulator,
        Site(
            folder,
            simulator,
            model="rpm = 6000\ninput_usd_per_mtok = 1.0\noutput_usd_per_mtok = 2.0",
            environment={
                "OTEL_EXPORTER_OTLP_ENDPOINT": collector.url,
                "OTEL_BSP_SCHEDULE_DELAY": "200",
                "OVERNIGHT_METRICS_PORT": "0",
            },
        ) as site,
    ):
        worker = site.start_worker()
        url = wait_for(lambda: address(worker.said()), what="the port")
        batch = site.submit([job(n, text=f"{SECRET} {n}") for n in range(20)] + [job(20, text=f"refuse {SECRET}")])
        assert site.wait(batch)["request_counts"] == {"total": 21, "completed": 20, "failed": 1}
        requests = simulator.stats()["requests"]
        wait_for(lambda: len(collector.named("chat small")) == requests, what="the spans of all calls")
        wait_for(lambda: sum("overnight.outcome" in span.attributes for span in collector.named("job ")) == 21)
        text = ask(url)[1]
        yield Told(simulator, collector, Scrape(text), exemplars(url))
        assert worker.stop() == 0


def address(said: str) -> str:
    lines = [line for line in said.splitlines() if "metrics at " in line]
    return lines[0].split("metrics at ")[1].strip() if lines else ""


def exemplars(url: str) -> str:
    """The page as OpenMetrics, which has exemplars."""
    request = urllib.request.Request(url, headers={"Accept": "application/openmetrics-text"})
    with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=10) as answer:
        return str(answer.read().decode())


def test_a_worker_counts_admissions_calls_and_jobs(told: Told) -> None:
    statuses = told.simulator.stats()["statuses"]
    assert (statuses["200"], statuses["429"], statuses["400"]) == (20, 2, 1)
    scrape, target = told.scrape, {"provider": "acme", "model": "small"}
    assert scrape.sum("overnight_call_seconds_count", outcome="ok", **target) == 20
    assert scrape.sum("overnight_call_seconds_count", **target) == 23
    assert scrape.sum("overnight_jobs_total", workflow="nightly", outcome="completed") == 20
    assert scrape.sum("overnight_jobs_total", workflow="nightly", outcome="failed") == 1
    assert scrape.sum("overnight_admissions_total", workflow="nightly", answer="admitted") >= 23
    # The 429s asked for a wait of a second.
    assert scrape.sum("overnight_admissions_total", workflow="nightly", answer="admitted", reason="later") > 0
    assert scrape.sum("process_resident_memory_bytes") > 0


def test_a_slow_calls_bucket_names_its_trace(told: Told) -> None:
    marked = [
        line for line in told.exemplars.splitlines() if "overnight_call_seconds_bucket" in line and " # {" in line
    ]
    traces = {span.trace for span in told.collector.spans}
    assert marked
    assert all(line.split('trace_id="')[1].split('"')[0] in traces for line in marked)


def test_a_jobs_trace_goes_from_submission_to_settlement(told: Told) -> None:
    (submitted,) = told.collector.named("submit nightly")
    assert submitted.service == "overnight"
    deliveries = told.collector.named("job nightly")
    assert {span.attributes["overnight.line"] for span in deliveries} == set(range(1, 22))
    for span in deliveries:
        assert (span.trace, span.parent, span.service) == (submitted.trace, submitted.id, "overnight-worker")
        assert span.start >= submitted.start
    ended = [span for span in deliveries if "overnight.outcome" in span.attributes]
    assert sorted(span.attributes["overnight.outcome"] for span in ended) == ["completed"] * 20 + ["failed"]
    spent = sum(span.attributes["overnight.cost_usd"] for span in ended)
    assert spent == pytest.approx(told.simulator.stats()["cost_nusd"] / 1e9)
    assert any(name == "snooze" for span in deliveries for name, _ in span.events) or len(deliveries) == 21


def test_calls_follow_the_conventions_for_generative_ai(told: Told) -> None:
    deliveries = {span.id: span for span in told.collector.named("job nightly")}
    calls = told.collector.named("chat small")
    for call in calls:
        delivery = deliveries[call.parent]
        assert call.trace == delivery.trace
        assert delivery.start <= call.end <= delivery.end
        for name, value in {
            "gen_ai.operation.name": "chat",
            "gen_ai.provider.name": "openai",
            "gen_ai.request.model": "small",
            "server.address": "127.0.0.1",
        }.items():
            assert call.attributes[name] == value
    answered = [call for call in calls if not call.error]
    assert sum(call.attributes["gen_ai.usage.output_tokens"] for call in answered) == 20 * 7
    assert all(call.attributes["gen_ai.response.finish_reasons"] == ["stop"] for call in answered)
    statuses = sorted(call.attributes["http.response.status_code"] for call in calls if call.error)
    assert statuses == [400, 429, 429]


def test_no_prompt_and_no_key_is_reported(told: Told) -> None:
    everything = b"".join(told.collector.raw) + told.scrape.text.encode() + told.exemplars.encode()
    assert b"gen_ai.request.model" in everything
    assert SECRET.encode() not in everything
    assert KEY.encode() not in everything


def test_children_of_the_prefork_pool_count_together(tmp_path: Path) -> None:
    environment = {"OVERNIGHT_METRICS_PORT": "0"}
    with Simulator() as simulator, Site(tmp_path, simulator, environment=environment) as site:
        worker = site.start_worker("-P", "processes", concurrency=2)
        url = wait_for(lambda: address(worker.said()), what="the port")
        batch = site.submit(jobs(10))
        site.wait(batch)
        scrape = Scrape(ask(url)[1])
        assert scrape.sum("overnight_jobs_total", outcome="completed") == 10
        assert scrape.sum("overnight_call_seconds_count") == simulator.stats()["requests"]
        assert worker.stop() == 0
        assert list((tmp_path / ".overnight").glob("metrics-*")) == []
