"""Webhooks at work: OpenAI's own SDK reads the events, and neither a failure nor kill -9 of a worker loses one."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from openai import OpenAI

from tests.simulator import Simulator
from tests.support.api import CLIENTS, ended, served, submit, upload
from tests.support.receiver import Received, Receiver, silent, status
from tests.support.site import KEY, Site, jobs, wait_for

pytestmark = pytest.mark.long

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"

#: The message of a killed worker goes to another one after this time.
MORE = "visibility_timeout = 5.0"


@pytest.fixture(scope="module")
def simulator() -> Iterator[Simulator]:
    with Simulator(latency=0.02, keys=[KEY]) as made:
        yield made


def hook(receiver: Receiver, *, name: str = "bridge", more: str = "") -> str:
    """The table of a webhook."""
    return f'[webhooks.{name}]\nurl = "{receiver.url}/{name}"\nsecret = "env:HOOK"\nallow_private = true\n{more}\n'


def site(folder: Path, simulator: Simulator, tables: str) -> Site:
    return Site(folder, simulator, more=MORE, tables=tables, environment={"HOOK": SECRET})


def events(requests: list[Received]) -> list[Any]:
    """The events of these calls, as OpenAI's SDK reads them."""
    with OpenAI(api_key="x", webhook_secret=SECRET) as sdk:
        return [sdk.webhooks.unwrap(request.body, request.headers) for request in requests]


def test_a_webhook_is_told_of_each_end_and_again_after_a_failure(tmp_path: Path, simulator: Simulator) -> None:
    with Receiver(status(500), status(204)) as receiver:
        private = hook(receiver, name="private").replace("allow_private = true\n", "")
        bridge = hook(receiver, more='workflows = ["nightly"]')
        tables = f"[workflows.nightly]\n[workflows.other]\n{bridge}{private}"
        with site(tmp_path, simulator, tables) as found:
            worker = found.start_worker()
            other = found.submit(jobs(1), workflow="other")
            found.wait(other)
            calls = [f"call_webhook(batch={other!r}, webhook={name!r})" for name in ("bridge", "gone")]
            found.python(f"from tasks.batches.webhooks import call_webhook; {'; '.join(calls)}")
            batch = found.submit(jobs(2))
            found.wait(batch)
            wait_for(lambda: len(receiver.requests) == 2, 40.0, what="the second call")
            assert "its address is private" in worker.said()
            assert receiver.url not in worker.said()
    first, again = receiver.requests
    assert first.path == again.path == "/bridge"
    assert first.body == again.body
    assert first.headers["webhook-id"] == again.headers["webhook-id"]
    (event,) = events([again])
    assert (event.type, event.data.id, event.object) == ("batch.completed", batch, "event")


def test_each_way_in_which_a_batch_ends_has_its_event(tmp_path: Path, simulator: Simulator) -> None:
    with (
        Receiver(status(204)) as receiver,
        site(tmp_path, simulator, f"{CLIENTS}{hook(receiver)}") as found,
        served(found) as api,
        api.sdk() as sdk,
    ):
        expired = submit(sdk, upload(sdk, jobs(5)), completion_window="1s").id
        late = time.time() + 1.0
        wait_for(lambda: time.time() > late, what="its deadline")
        found.start_worker()
        completed = submit(sdk, upload(sdk, jobs(2))).id
        failed = submit(sdk, upload(sdk, b"not json\n")).id
        cancelled = submit(sdk, upload(sdk, jobs(3))).id
        sdk.batches.cancel(cancelled)
        ends = {batch: ended(sdk, batch).status for batch in (expired, completed, failed, cancelled)}
        by_hand = found.submit(jobs(1), workflow="adhoc")
        ends[by_hand] = found.wait(by_hand)["status"]
        wait_for(lambda: len(receiver.requests) == len(ends), what="a call for each end")
    told = events(receiver.requests)
    assert {event.data.id: event.type for event in told} == {batch: f"batch.{end}" for batch, end in ends.items()}
    assert {"completed", "failed", "expired", "cancelled"} == set(ends.values())
    assert len({event.id for event in told}) == len(told)


def test_a_worker_killed_during_a_call_or_between_two_is_replaced(tmp_path: Path, simulator: Simulator) -> None:
    with Receiver(silent(), status(500), status(204)) as receiver, site(tmp_path, simulator, hook(receiver)) as found:
        worker = found.start_worker()
        batch = found.submit(jobs(1))
        found.wait(batch)
        wait_for(lambda: len(receiver.requests) == 1, what="the first call")
        worker.kill()
        second = found.start_worker()
        wait_for(lambda: len(receiver.requests) == 2, 60.0, what="the second call, after the kill during the first")
        wait_for(lambda: "next try in" in second.said(), what="the next try's delay")
        second.kill()
        found.start_worker()
        wait_for(lambda: len(receiver.requests) == 3, 60.0, what="the third call, after the kill between two")
    assert len({request.headers["webhook-id"] for request in receiver.requests}) == 1
    assert [event.data.id for event in events(receiver.requests)] == [batch] * 3
