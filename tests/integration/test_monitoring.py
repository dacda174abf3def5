"""What people and Prometheus see of a running site: figures that agree with the provider's, no prompt anywhere."""

import json
from collections.abc import Iterator
from urllib.parse import quote

import pytest

from tests.simulator import Simulator
from tests.support.site import KEY, Site, job, wait_for
from tests.support.toml import PRICES
from tests.support.watching import USER, Scrape, ask, exporter, flower

pytestmark = pytest.mark.long

TOKEN = "scrape-me"
SECRET = "the-marked-prompt-of-a-customer"

FAILURES = [
    {"mode": "429", "every": 11, "times": 3, "retry_after": "1"},
    {"mode": "500", "every": 9, "times": 4},
    {"mode": "400", "job": "refuse", "times": 4},
]


class Watched:
    """A site with Flower before it, and a batch that has run."""

    def __init__(self, site: Site, simulator: Simulator, url: str) -> None:
        self.site, self.simulator, self.url = site, simulator, url
        self.batch = ""
        self.during: list[Scrape] = []

    def get(self, path: str, user: str = USER) -> str:
        status, text, _ = ask(f"{self.url}{path}", user=user)
        assert status == 200, (path, status, text[:500])
        return text

    def workers(self) -> int:
        """How many workers Flower has heard of."""
        return sum(bool(worker["status"]) for worker in json.loads(self.get("/workers?json=1"))["data"])

    def worker(self) -> str:
        return next(iter(json.loads(self.get("/api/workers?refresh=1"))))


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watched]:
    folder = tmp_path_factory.mktemp("monitoring")
    with (
        Simulator(latency=[0.05, 0.3], answer_tokens=[5, 60], failures=FAILURES, keys=[KEY]) as simulator,
        Site(
            folder,
            simulator,
            more="budget_usd = 10.0",
            model=f"rpm = 2400\n{PRICES}",
            tables="[workflows.nightly]\nbudget_usd = 2.0\nmax_attempts = 8",
        ) as site,
    ):
        site.start_workers(2)
        with flower(site, OVERNIGHT_METRICS_TOKEN=TOKEN) as url:
            found = Watched(site, simulator, url)
            wait_for(lambda: found.workers() == 2, what="Flower knows the workers")
            lines = [job(n, text=f"{SECRET} {n}") for n in range(200)]
            lines += [job(n, text=f"refuse {SECRET} {n}") for n in range(200, 204)]
            found.batch = site.submit(lines)

            def ended() -> bool:
                found.during.append(Scrape(found.get("/metrics")))
                return found.during[-1].sum("overnight_batch_jobs", state="left") == 0

            wait_for(ended, 60.0, every=0.3, what="the batch")
            site.wait(found.batch)
            yield found
            for worker in site.workers:
                worker.kill()  # the last jobs are slow ones


def test_metrics_agree_with_the_providers_journal(watched: Watched) -> None:
    """Calls, 429s, failures, tokens and dollars, to the last one."""
    journal = watched.simulator.stats()
    assert {"200", "400", "429", "500"} <= set(journal["statuses"])
    with exporter(watched.site) as url:
        alone = Scrape(ask(url)[1])
    for scrape in (alone, Scrape(watched.get("/metrics"))):
        names = {"workflow": "nightly", "provider": "acme", "model": "small"}
        assert scrape.sum("overnight_calls_total", **names) == journal["requests"]
        assert scrape.sum("overnight_throttled_calls_total", **names) == journal["statuses"]["429"]
        failed = journal["statuses"]["500"] + journal["statuses"]["400"]
        assert scrape.sum("overnight_failed_calls_total", **names) == failed
        for kind in ("input", "output"):
            assert scrape.sum("overnight_tokens_total", type=kind, **names) == journal[f"{kind}_tokens"]
        dollars = journal["cost_nusd"] / 1e9
        assert scrape.sum("overnight_spent_dollars_total") == pytest.approx(dollars, abs=1e-9)
        for subject in ("all", "workflow/nightly"):
            assert scrape.sum("overnight_budget_spent_dollars", budget=subject) == pytest.approx(dollars, abs=1e-9)
        assert scrape.sum("overnight_budget_held_dollars") == 0
        assert scrape.sum("overnight_batch_jobs", batch=watched.batch, state="completed") == 200
        assert scrape.sum("overnight_batch_jobs", batch=watched.batch, state="failed") == 4
        assert scrape.sum("overnight_up") == 1


def test_metrics_during_the_run(watched: Watched) -> None:
    """Counters only grow, nothing is counted before the provider has seen it, and what goes on is to be seen."""
    calls = [
        scrape.sum("overnight_calls_total") for scrape in watched.during if "overnight_calls_total" in scrape.names
    ]
    assert len(set(calls)) > 2
    assert calls == sorted(calls)
    assert calls[-1] <= watched.simulator.stats()["requests"]
    running = [s for s in watched.during if 0 < s.sum("overnight_batch_jobs", state="left") < 204]
    assert running
    for scrape in running:
        assert scrape.labels("overnight_queue_jobs", "workflow") >= {"nightly"}
        assert scrape.sum("overnight_quota_limit", dimension="rpm", model="small") == 2_400
        assert 0 <= scrape.sum("overnight_quota_used_ratio", dimension="rpm", model="small") <= 1
        assert scrape.sum("overnight_circuit_state", state="closed") == 1
        assert scrape.sum("overnight_budget_limit_dollars", budget="workflow/nightly") == 2
    assert max(s.sum("overnight_calls_in_flight") for s in running) > 0
    assert max(s.sum("overnight_queue_jobs", state="in_flight") for s in running) > 0


def test_pages(watched: Watched) -> None:
    page = watched.get("/workflows")
    for words in ("nightly", watched.batch, "200 of 204", "4 failed", "completed"):
        assert words.replace("200 of 204", "of 204") in page, words
    limits = watched.get("/limits")
    for words in ("acme/small", "of 2,400", "requests a minute", "Budget over everything", "of $2.00"):
        assert words in limits, words
    assert "workflow.nightly" in watched.get("/broker")
    part = watched.get("/limits?part=1")
    assert "<html" not in part
    assert "acme/small" in part


def test_the_list_of_tasks_tells_model_tokens_and_cost(watched: Watched) -> None:
    table = "/tasks/datatable?draw=1&start=0&length=100&order[0][column]=0&columns[0][data]=received&search[value]="
    done = json.loads(watched.get(table + "state:SUCCESS"))["data"]
    assert len(done) == 100
    for task in done:
        assert (task["workflow"], task["provider"], task["model"]) == ("nightly", "acme", "small")
        assert task["tokens"] > 0
        assert task["cost_usd"].startswith("$0.0")
    (failed, *_) = json.loads(watched.get(table + "state:FAILURE"))["data"]
    assert "400" in failed["exception"]
    assert failed["workflow"] == "nightly"
    assert "Cost" in watched.get("/tasks")
    assert "acme" in watched.get(f"/task/{done[0]['uuid']}")


def test_grow_and_shrink_change_the_workers_concurrency(watched: Watched) -> None:
    """Flower's buttons post these; test_flower_in_a_browser.py presses them."""
    worker = watched.worker()

    def concurrency() -> int:
        found = json.loads(watched.get(f"/api/workers?refresh=1&workername={quote(worker)}"))
        return int(found[worker]["stats"]["pool"]["max-concurrency"])

    before = concurrency()
    for action, after in (("grow", before + 7), ("shrink", before)):
        url = f"{watched.url}/api/worker/pool/{action}/{quote(worker)}"
        status, text, _ = ask(url, user=USER, data=b"n=7")
        assert status == 200, text
        wait_for(lambda: concurrency() == after, what=action)  # noqa: B023 - waited for within the turn


def test_everything_asks_for_the_password(watched: Watched) -> None:
    paths = ["/", "/workflows", "/limits", "/limits?part=1", "/broker", "/tasks", "/metrics", "/api/workers"]
    for path in paths:
        for user in ("", "operator:wrong"):
            assert ask(f"{watched.url}{path}", user=user)[0] == 401, path
    assert ask(f"{watched.url}/healthcheck")[:2] == (200, "OK")


def test_a_token_lets_prometheus_in_and_nowhere_else(watched: Watched) -> None:
    assert ask(f"{watched.url}/metrics", token=TOKEN)[0] == 200
    assert ask(f"{watched.url}/metrics", token="another")[0] == 401
    assert ask(f"{watched.url}/workflows", token=TOKEN)[0] == 401


def test_flower_does_not_start_as_an_open_door(watched: Watched) -> None:
    done = watched.site.run("flower", "--port=0", status=2)
    assert "FLOWER_BASIC_AUTH=user:password" in done.stderr


def test_no_prompt_and_no_key_on_any_page(watched: Watched) -> None:
    """Also while jobs run: Celery's own list of active tasks would show their arguments."""
    watched.simulator.configure(latency=8.0)
    more = watched.site.submit([job(n, text=f"{SECRET} slow {n}") for n in range(1_000, 1_006)], workflow="nightly")
    names = list(json.loads(watched.get("/api/workers?refresh=1")))

    def active() -> str:
        for name in names:
            found = watched.get(f"/api/workers?refresh=1&workername={quote(name)}")
            if json.loads(found)[name].get("active"):
                return found
        return ""

    shown = wait_for(active, what="active jobs")
    tasks = json.loads(watched.get("/api/tasks?limit=300"))
    pages = [shown, json.dumps(tasks), *(watched.get(f"/worker/{quote(name)}") for name in names)]
    pages += [
        watched.get(path) for path in ("/workflows", "/limits", "/broker", "/tasks", "/metrics", "/workers?json=1")
    ]
    pages += [watched.get(f"/task/{name}") for name in list(tasks)[:5]]
    for page in pages:
        assert SECRET not in page
        assert KEY not in page
    assert more in shown, "it does tell which job it is"
