"""What is seen of live calls: the calls in flight and today's in Flower's rows, metrics of the server, traces."""

import re
import threading
from collections.abc import Iterator

import httpx
import pytest

from tasks.batches.store import open_store
from tasks.monitoring.flower.workflow_rows import workflow_rows
from tasks.monitoring.snapshot import read
from tests.simulator import Simulator
from tests.support.api import CLIENTS, KEYS, Api, served
from tests.support.collector import Collector
from tests.support.site import KEY, Site, wait_for
from tests.support.toml import PRICES, provider
from tests.support.watching import USER, Scrape, ask, flower
from workers.config.settings import load

CHAT = {"model": "acme/small", "messages": [{"role": "user", "content": "hello"}], "max_tokens": 50}

TRACE = "0af7651916cd43dd8448eb211c80319c"


@pytest.fixture(scope="module")
def collector() -> Iterator[Collector]:
    with Collector() as made:
        yield made


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory, simulator: Simulator) -> Iterator[Site]:
    toml = provider(simulator.base_url, models={"small": PRICES}) + CLIENTS
    with Site(tmp_path_factory.mktemp("seen"), toml=toml, environment={**KEYS, "ACME_KEY": KEY}) as made:
        yield made


@pytest.fixture(scope="module")
def api(site: Site, collector: Collector) -> Iterator[Api]:
    environment = {
        "OVERNIGHT_METRICS_PORT": "0",
        "OTEL_EXPORTER_OTLP_ENDPOINT": collector.url,
        "OTEL_BSP_SCHEDULE_DELAY": "100",
    }
    with served(site, environment=environment) as found:
        yield found


def row(site: Site) -> str:
    """The cell of the default workflow's live calls in Flower."""
    settings = load(site.file)
    store = open_store(settings)
    try:
        rows = {each.name: each for each in workflow_rows(read(store, settings), settings, None)}
    finally:
        store.client.close()
    return rows["nightly"].calls


def test_flower_shows_live_calls_in_flight_and_those_of_today(
    site: Site, api: Api, simulator: Simulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ACME_KEY", KEY)
    simulator.configure(latency=5.0)

    def call() -> None:
        with api.http() as client:
            client.post("chat/completions", json=CHAT)

    thread = threading.Thread(target=call)
    thread.start()
    wait_for(lambda: row(site) == "1 now · 0 today", what="the call in flight")
    thread.join()
    simulator.configure(latency=0.0)
    wait_for(lambda: row(site) == "0 now · 1 today", what="the call's end")


def test_a_live_call_is_a_span_in_its_clients_trace(api: Api, collector: Collector) -> None:
    with api.http() as client:
        client.post("chat/completions", json=CHAT, headers={"traceparent": f"00-{TRACE}-b7ad6b7169203331-01"})
    spans = wait_for(lambda: [span for span in collector.spans if span.trace == TRACE][1:] and collector.spans)
    whole = next(span for span in spans if span.trace == TRACE and span.name == "POST /v1/chat/completions")
    call = next(span for span in spans if span.trace == TRACE and span.name == "chat small")
    assert (whole.parent, call.parent) == ("b7ad6b7169203331", whole.id)
    assert whole.service == "overnight-server"
    assert not whole.error
    assert whole.attributes["overnight.calls"] == 1


def test_the_server_counts_its_live_calls(api: Api) -> None:
    with api.http() as client:
        assert client.post("chat/completions", json=CHAT).status_code == httpx.codes.OK
        assert client.post("chat/completions", json={**CHAT, "model": "nothing"}).status_code == httpx.codes.NOT_FOUND
    found = wait_for(lambda: re.search(r"metrics at (\S+)", api.log()))
    scrape = Scrape(ask(found[1])[1])
    assert scrape.sum("overnight_live_call_seconds_count", workflow="nightly", outcome="ok") >= 1
    assert scrape.sum("overnight_live_call_seconds_count", workflow="nightly", outcome="404") == 1
    assert scrape.sum("overnight_live_calls_in_flight", workflow="nightly") == 0


@pytest.mark.long
def test_flowers_page_has_the_live_calls(site: Site, api: Api) -> None:
    with api.http() as client:
        client.post("chat/completions", json=CHAT)
    with flower(site) as url:
        wait_for(
            lambda: re.search(r"0 now · \d+ today", ask(f"{url}/workflows", user=USER)[1]),
            what="the live calls of today",
        )
