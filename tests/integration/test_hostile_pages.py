"""Flower in a real browser, before names, ids, fields and errors that mean harm: no script runs, nothing is broken.

Skipped if there is no Chromium: apt-get install chromium, or set CHROMIUM to its path.
"""

import base64
import json
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import pytest
from celery import Celery

from tests.simulator import Simulator
from tests.support.browser import Browser, available
from tests.support.site import Site, job, wait_for
from tests.support.watching import USER, ask, command, flower
from workers.transport.envelope import JOB

pytestmark = [
    pytest.mark.long,
    pytest.mark.timeout(300),
    pytest.mark.skipif(available() is None, reason="there is no chromium: apt-get install chromium, or set CHROMIUM"),
]

RUN = "window.top.PWNED=1"

#: What runs if it is written into a page as it is: as an element, out of an attribute, out of a script, as a frame.
HOSTILE = (
    f'<img src=x onerror="{RUN}">',
    f"\"'><svg onload={RUN}>",
    f"</script><script>{RUN}</script>",
    f'<iframe srcdoc="<script>{RUN}</script>"></iframe>',
    f"{{{{ {RUN} }}}}\x1b]52;c;x\x07\u202e",
)

#: Fields of events, of tasks and of workers.
FIELDS = (
    *("name", "args", "kwargs", "result", "exception", "traceback", "workflow", "provider", "model", "tokens", "eta"),
    *(
        "cost_usd",
        "attempts",
        "runtime",
        "retries",
        "expires",
        "routing_key",
        "exchange",
        "root_id",
        "parent_id",
        "queue",
    ),
    *(
        "active",
        "processed",
        "loadavg",
        "freq",
        "sw_ident",
        "sw_ver",
        "sw_sys",
        "state",
        "as_dict",
        "worker",
        "children",
    ),
)

#: Every page of Flower and ours; and the text that shows that it is complete.
PAGES = {
    "workers": "document.querySelectorAll('#workers-table tbody tr').length > 1",
    "tasks": "document.querySelectorAll('#tasks-table tbody tr').length > 10",
    "workflows": "document.querySelectorAll('tbody tr').length > 1",
    "limits": "document.querySelectorAll('tbody tr').length > 1",
    "broker": "document.querySelectorAll('tbody tr').length > 0",
}


@dataclass
class Seen:
    """A browser before a site to which harm was sent."""

    browser: Browser
    site: Site
    url: str
    worker: str

    def open(self, page: str, wait: str = "document.querySelector('main')") -> None:
        self.browser.open(f"{self.url}/{page}", wait)
        time.sleep(0.3)  # an image that does not load runs its handler a moment later
        assert self.browser.evaluate("window.PWNED === undefined"), f"a script ran in {page}"
        assert self.browser.evaluate("document.querySelectorAll('main img, main iframe, main svg[onload]').length") == 0
        assert self.browser.evaluate("!/[\\x1b\\x07\\u202e]/.test(document.body.innerText)"), page


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Seen]:
    with (
        Simulator(latency=0.05) as simulator,
        Site(tmp_path_factory.mktemp("hostile"), simulator, model="rpm = 6000", tables="[workflows.nightly]") as site,
    ):
        site.start_worker("-E")
        with flower(site) as url, Browser() as browser:
            browser.login(USER)
            browser.size(1280, 800)
            (worker,) = json.loads(ask(f"{url}/api/workers?refresh=1", user=USER)[1])
            harm(site, url)
            yield Seen(browser, site, url, worker)


def harm(site: Site, url: str) -> None:
    """Everything that a producer and a submitter can send."""
    site.submit([job(1), job(2, model="acme/" + HOSTILE[0].replace(" ", "/"))])
    named = site.folder / "<img src=x onerror=window.top.PWNED=1>.jsonl"
    named.write_text(json.dumps(job(3)) + "\n")
    site.run("submit", str(named), "-w", "nightly")
    with Celery("mallory", broker=site.redis_url(), set_as_current=False) as client:
        for number, text in enumerate(HOSTILE):
            client.send_task(JOB, kwargs={"job": text, text: text}, queue="workflow.nightly", task_id=f"job-{number}")
        with client.connection() as connection, client.events.Dispatcher(connection, hostname="mallory@host") as events:
            publish(events)
    wait_for(lambda: len(json.loads(ask(f"{url}/api/tasks?limit=1000", user=USER)[1])) > len(HOSTILE) * 4)


def publish(events: Any) -> None:
    """Events whose every field is hostile, as text and as what is no text."""
    shapes: tuple[Any, ...] = (str, lambda text: [text], lambda text: {text: text}, lambda text: [[text]])
    for number, text in enumerate(HOSTILE):
        for kind, shape in enumerate(shapes):
            fields = {name: shape(text) for name in FIELDS}
            for event in ("task-received", "task-started", "task-retried", "task-failed"):
                events.send(event, uuid=f"{text if kind else 'event'}-{number}-{kind}", **fields)
            events.send("worker-heartbeat", **{**fields, "freq": 2})
            events.send("task-" + text, uuid="custom", **fields)
        worker = {"hostname": f"{text}@host", "freq": 2, "active": text, "processed": [text], "loadavg": [text] * 3}
        raw(events, {**worker, "type": "worker-heartbeat", "timestamp": time.time(), "clock": 1, "pid": text})
    for broken in ({"type": ["x"], "timestamp": "soon"}, [None, 5, "text"], {"type": "task-sent"}, "text"):
        raw(events, broken)
    raw(events, b"no JSON", content_type="application/x-python-serialize", content_encoding="binary")


def raw(events: Any, body: Any, **options: Any) -> None:
    """An event as it stands, which Celery's dispatcher would not send."""
    events.producer.publish(body, exchange=events.exchange, routing_key="worker.heartbeat", **options)


@pytest.mark.parametrize("page", PAGES)
def test_no_script_runs_and_the_page_is_whole(seen: Seen, page: str) -> None:
    account = seen.site.keys.blocked_account("acme/0")
    seen.site.client().set(account, HOSTILE[0])  # a provider's words, why nothing is sent to it
    try:
        seen.open(page, PAGES[page])
        assert page != "limits" or "<img src=x" in seen.browser.text()
    finally:
        seen.site.client().delete(account)


def test_the_list_of_tasks_can_be_searched_and_sorted(seen: Seen) -> None:
    seen.open("tasks", PAGES["tasks"])
    for column in range(seen.browser.evaluate("document.querySelectorAll('#tasks-table thead th').length")):
        seen.browser.evaluate(f"document.querySelectorAll('#tasks-table thead th')[{column}].click()")
        seen.browser.wait(PAGES["tasks"])
    assert seen.browser.evaluate("window.PWNED === undefined")


def test_each_tasks_page(seen: Seen) -> None:
    found = json.loads(ask(f"{seen.url}/api/tasks?limit=1000", user=USER)[1])
    hostile = [task for task in found if "PWNED" in task]
    assert hostile
    for task in [*hostile[:8], *(task for task in found if task not in hostile)][:16]:
        seen.open(f"task/{quote(task, safe='')}", "document.querySelector('#taskid')")


def test_the_workers_page(seen: Seen) -> None:
    seen.open(f"worker/{quote(seen.worker)}", "document.querySelector('#worker-pool-grow') && window.jQuery")


def test_no_error_but_of_what_the_policy_kept_out(seen: Seen) -> None:
    """Last of all."""
    lines = [line for line in seen.browser.console if "favicon" not in line]
    assert lines == []


def test_every_answer_says_what_a_page_may_run(seen: Seen) -> None:
    for path in ("workers", "workflows", "static/js/flower.js", "api/workers", "metrics", "nothing"):
        _, _, headers = ask(f"{seen.url}/{path}", user=USER)
        assert "script-src 'self';" in (headers["Content-Security-Policy"] or ""), path
        assert headers["X-Frame-Options"] == "DENY"


def test_an_answer_is_not_shown(seen: Seen) -> None:
    with Celery(
        "producer", broker=seen.site.redis_url(), backend=seen.site.redis_url(), set_as_current=False
    ) as client:
        sent = client.send_task(JOB, kwargs={"job": job(7)}, queue="workflow.nightly")
        sent.get(timeout=20)
    status, text, _ = ask(f"{seen.url}/api/task/result/{sent.id}", user=USER)
    assert (status, "answer" in text and "choices" in text) == (403, False)


def test_a_non_ascii_password_is_simply_wrong(seen: Seen) -> None:
    for path in ("workers", "metrics"):
        request = urllib.request.Request(f"{seen.url}/{path}")
        request.add_header("Authorization", f"Basic {base64.b64encode('operator:pässword'.encode()).decode()}")
        with pytest.raises(urllib.error.HTTPError, match="401") as refused:
            urllib.request.urlopen(request, timeout=10)
        refused.value.close()
    assert "Traceback" not in (seen.site.folder / "flower.log").read_text()


def test_another_sites_name_for_this_machine_is_not_answered(seen: Seen) -> None:
    options = ("flower", "--port=0", "--address=127.0.0.1")
    with command(seen.site, *options, says="Visit me at") as url:
        for path in ("workflows", "metrics", "api/workers", "static/js/flower.js"):
            assert ask(f"{url}/{path}")[0] != 403 or path.startswith("api")
            request = urllib.request.Request(f"{url}/{path}", headers={"Host": "rebound.example.com"})
            with pytest.raises(urllib.error.HTTPError, match="403") as refused:
                urllib.request.urlopen(request, timeout=10)
            refused.value.close()
