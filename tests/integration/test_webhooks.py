"""Webhooks at work: OpenAI's own SDK reads the events, and a webhook that fails is called again."""

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from openai import OpenAI

from tests.simulator import Simulator
from tests.support.site import Site, jobs, wait_for

pytestmark = pytest.mark.long

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"


class Receiver(ThreadingHTTPServer):
    """A webhook that answers 500 to the first call."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, bytes, dict[str, str]]] = []
        super().__init__(("127.0.0.1", 0), Handler)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class Handler(BaseHTTPRequestHandler):
    server: Receiver

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        self.server.calls.append((self.path, body, dict(self.headers.items())))
        self.send_response(500 if len(self.server.calls) == 1 else 204)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver() as made:
        thread = threading.Thread(target=made.serve_forever)
        thread.start()
        yield made
        made.shutdown()
        thread.join(10)


def test_a_webhook_is_told_of_each_end_and_again_after_a_failure(
    tmp_path_factory: pytest.TempPathFactory, simulator: Simulator, receiver: Receiver
) -> None:
    tables = f"""
[workflows.nightly]
[workflows.other]
[webhooks.bridge]
url = "{receiver.url}/hook"
secret = "env:HOOK"
allow_private = true
workflows = ["nightly"]
[webhooks.private]
url = "{receiver.url}/private"
secret = "env:HOOK"
"""
    folder = tmp_path_factory.mktemp("hooks")
    with Site(folder, simulator, tables=tables, environment={"HOOK": SECRET}) as site:
        worker = site.start_worker()
        site.wait(site.submit(jobs(1), workflow="other"))
        batch = site.submit(jobs(2))
        site.wait(batch)
        wait_for(lambda: len(receiver.calls) == 2, 40.0, what="the second call")
        assert "its address is private" in worker.said()
        assert receiver.url not in worker.said()
    (path, body, first), (_, again, second) = receiver.calls
    assert path == "/hook"
    assert body == again
    assert first["webhook-id"] == second["webhook-id"]
    with OpenAI(api_key="x", webhook_secret=SECRET) as sdk:
        event = sdk.webhooks.unwrap(again, second)
    assert event.type == "batch.completed"
    assert event.data.id == batch
    assert event.object == "event"
