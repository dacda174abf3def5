"""Files and batches over HTTP, with OpenAI's own SDK, unchanged."""

import json
import re
import time
from collections.abc import Iterator
from typing import Any

import openai
import pytest
from openai import OpenAI

from tests.simulator import Simulator
from tests.support.api import CLIENTS, TWO, Api, served
from tests.support.site import KEY, Line, Site, job, jobs, wait_for
from tests.support.toml import PRICES


@pytest.fixture(scope="module")
def simulator() -> Iterator[Simulator]:
    failures = [{"mode": "400", "job": "refuse", "times": 100}]
    with Simulator(latency=0.02, keys=[KEY], failures=failures) as made:
        yield made


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory, simulator: Simulator) -> Iterator[Site]:
    with Site(tmp_path_factory.mktemp("api"), simulator, model=PRICES, tables=CLIENTS) as made:
        made.start_worker(ready=False)
        yield made


@pytest.fixture(scope="module")
def api(site: Site) -> Iterator[Api]:
    with served(site) as found:
        yield found


@pytest.fixture
def sdk(api: Api) -> Iterator[OpenAI]:
    with api.sdk() as made:
        yield made


@pytest.fixture
def other(api: Api) -> Iterator[OpenAI]:
    with api.sdk(TWO) as made:
        yield made


def jsonl(lines: list[Line]) -> bytes:
    return "".join(json.dumps(line) + "\n" for line in lines).encode()


def upload(sdk: OpenAI, lines: list[Line] | bytes, **more: Any) -> str:
    content = lines if isinstance(lines, bytes) else jsonl(lines)
    return sdk.files.create(file=("tickets.jsonl", content), purpose="batch", **more).id


def submit(sdk: OpenAI, file: str, **more: Any) -> openai.types.Batch:
    options = {"endpoint": "/v1/chat/completions", "completion_window": "24h", **more}
    return sdk.batches.create(input_file_id=file, **options)


def ended(sdk: OpenAI, batch: str, seconds: float = 60.0) -> openai.types.Batch:
    over = {"completed", "failed", "expired", "cancelled"}
    return wait_for(lambda: (found := sdk.batches.retrieve(batch)).status in over and found, seconds, every=0.1)


@pytest.fixture(scope="module")
def done(api: Api) -> Iterator[openai.types.Batch]:
    """A batch of 20 jobs that succeed and one that fails, when it has ended."""
    with api.sdk() as sdk:
        file = upload(sdk, [*jobs(20), job(21, text="refuse")])
        batch = submit(sdk, file, completion_window="2h", metadata={"team": "support"})
        assert batch.status == "validating"
        assert batch.output_file_id is None
        yield ended(sdk, batch.id)


def test_an_uploaded_file_has_an_id_a_name_and_an_expiry(sdk: OpenAI) -> None:
    before = int(time.time())
    file = sdk.files.create(file=("tickets.jsonl", jsonl(jobs(2))), purpose="batch")
    assert re.fullmatch(r"file-[0-9a-f]{32}", file.id)
    assert (file.object, file.purpose, file.filename, file.status) == ("file", "batch", "tickets.jsonl", "processed")
    assert before <= file.created_at <= time.time()
    assert file.expires_at == pytest.approx(file.created_at + 30 * 86_400, abs=1)
    assert file.bytes == len(sdk.files.content(file.id).content)
    assert sdk.files.content(file.id).content == jsonl(jobs(2))
    assert sdk.files.retrieve(file.id) == file


def test_a_batch_that_has_completed_says_what_it_was_and_when(done: openai.types.Batch) -> None:
    assert done.status == "completed"
    assert done.request_counts is not None
    assert done.request_counts.model_dump() == {"total": 21, "completed": 20, "failed": 1}
    assert done.metadata == {"team": "support"}
    assert (done.endpoint, done.completion_window) == ("/v1/chat/completions", "2h")
    assert done.usage is not None
    assert done.usage.total_tokens == done.usage.input_tokens + done.usage.output_tokens > 0
    times = [done.created_at, done.in_progress_at, done.finalizing_at, done.completed_at]
    assert None not in times
    assert times == sorted(times)  # type: ignore[type-var]
    assert done.expires_at == pytest.approx(done.created_at + 7200, abs=1)
    assert (done.failed_at, done.expired_at, done.cancelled_at, done.errors) == (None, None, None, None)


def test_its_answers_and_failures_are_files(sdk: OpenAI, site: Site, done: openai.types.Batch) -> None:
    assert done.output_file_id is not None
    assert done.error_file_id is not None
    answers = [json.loads(line) for line in sdk.files.content(done.output_file_id).text.splitlines()]
    assert {each["custom_id"] for each in answers} == {f"job-{number}" for number in range(1, 21)}
    assert all(each["response"]["status_code"] == 200 for each in answers)
    (error,) = [json.loads(line) for line in sdk.files.content(done.error_file_id).text.splitlines()]
    assert error["custom_id"] == "job-21"
    output = sdk.files.retrieve(done.output_file_id)
    assert (output.purpose, output.filename) == ("batch_output", f"{done.id}_output.jsonl")
    assert output.bytes == len(sdk.files.content(done.output_file_id).content)
    assert site.results(done.id) == (answers, [error])


def test_the_command_line_shows_the_same_batch(site: Site, done: openai.types.Batch) -> None:
    status = site.status(done.id)
    assert (status["status"], status["workflow"], status["input"]) == ("completed", "nightly", "tickets.jsonl")
    assert status["request_counts"] == {"total": 21, "completed": 20, "failed": 1}
