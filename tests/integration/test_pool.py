"""The asyncio pool in real worker processes: a Celery worker like any other, as its users and its operators see it."""

import time
from collections.abc import Iterator
from typing import Any

import pytest
from celery import Celery, chain, chord, group
from celery.exceptions import SoftTimeLimitExceeded, TaskRevokedError, TimeLimitExceeded

from tests.support.fixtures import site_fixture
from tests.support.site import Site, wait_for

pytestmark = pytest.mark.long

QUEUE = "workflow.default"


site = site_fixture("-I", "tests.support.tasks", workers=1, concurrency=50)


@pytest.fixture(scope="module")
def client(site: Site) -> Iterator[Celery]:
    """A producer that knows nothing of ours but the names."""
    url = site.redis_url()
    with Celery("producer", broker=url, backend=url, set_as_current=False) as made:
        made.conf.task_default_queue = QUEUE
        yield made


def task(client: Celery, name: str, *args: Any) -> Any:
    return client.signature(f"tests.support.tasks.{name}", args)


def run(client: Celery, name: str, *args: Any, **options: Any) -> Any:
    return task(client, name, *args).apply_async(**options).get(timeout=20)


def test_a_coroutine_and_its_children_see_their_request(client: Celery) -> None:
    results = [task(client, "who").apply_async() for _ in range(20)]
    for result in results:
        found = result.get(timeout=20)
        assert found["request"] == found["current"] == result.id
        assert found["children"] == [result.id, result.id]
        assert found["thread"] == "asyncio-pool"


def test_a_function_that_is_no_coroutine_runs_in_a_thread(client: Celery) -> None:
    assert run(client, "thread_name").startswith("task")
    started = time.monotonic()
    blocked = [task(client, "block", 1.0).apply_async() for _ in range(8)]
    assert run(client, "add_slowly", 1, 2) == 3
    assert time.monotonic() - started < 1.0, "functions that block have held up a coroutine"
    assert [result.get(timeout=20) for result in blocked] == ["blocked"] * 8


def test_exceptions_reach_the_caller(client: Celery) -> None:
    with pytest.raises(ValueError, match="as told"):
        run(client, "fail", "as told")


def test_retries_are_celerys(client: Celery) -> None:
    assert run(client, "third_time") == 2


def test_publishing_does_not_hold_up_the_loop(client: Celery) -> None:
    assert run(client, "publish", 50) < 0.1


def test_chains_groups_and_chords(client: Celery) -> None:
    step = "add_slowly"
    assert chain(task(client, step, 1, 2), task(client, "add", 4), task(client, step, 8))().get(timeout=20) == 15
    assert group(task(client, step, n, n) for n in range(3))().get(timeout=20) == [0, 2, 4]
    header = [task(client, name, n, n) for n, name in enumerate((step, "add", step))]
    assert chord(header)(task(client, "total")).get(timeout=20) == 6


def test_an_idle_worker_answers_at_once(client: Celery) -> None:
    run(client, "add_slowly", 1, 2)
    waits = []
    for _ in range(5):
        time.sleep(0.3)  # long enough for the hub to fall asleep
        started = time.monotonic()
        run(client, "add_slowly", 1, 2)
        waits.append(time.monotonic() - started)
    assert sorted(waits)[2] < 0.5, waits


def test_time_limits(client: Celery) -> None:
    coroutine = task(client, "heed", 20).apply_async(soft_time_limit=0.3, time_limit=10)
    thread = task(client, "heed_in_thread", 20).apply_async(soft_time_limit=0.3, time_limit=10)
    soft = task(client, "sleep", 20).apply_async(soft_time_limit=0.3)
    hard = [task(client, name, 20).apply_async(time_limit=0.3) for name in ("sleep", "block")]
    assert coroutine.get(timeout=10) == thread.get(timeout=10) == "heeded"
    with pytest.raises(SoftTimeLimitExceeded):
        soft.get(timeout=10)
    for result in hard:
        with pytest.raises(TimeLimitExceeded):
            result.get(timeout=10)


def test_revoking_with_terminate_breaks_a_task_off(site: Site, client: Celery) -> None:
    marks = site.folder / "revoked"
    results = [
        task(client, "leave_mark", str(marks), 60).apply_async(),
        task(client, "block", 60).apply_async(),
    ]
    wait_for(marks.exists)
    wait_for(lambda: len(running(client)) == 2)
    for result in results:
        client.control.revoke(result.id, terminate=True)
        with pytest.raises(TaskRevokedError):
            result.get(timeout=10)
    wait_for(lambda: marks.read_text() == "begins\nCancelledError\n")
    wait_for(lambda: not running(client))


def running(client: Celery) -> list[Any]:
    """What the workers run now."""
    return [request for found in (client.control.inspect(timeout=0.5).active() or {}).values() for request in found]
