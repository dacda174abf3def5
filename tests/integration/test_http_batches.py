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
from tests.support.api import CLIENTS, TWO, Api, api_fixture, ended, jsonl, sdk_fixture, submit, upload
from tests.support.site import KEY, Site, job, jobs
from tests.support.toml import PRICES

DEDUPED = CLIENTS.replace("[workflows.adhoc]", "[workflows.adhoc]\ndedupe = true")


#: Tokens of each prompt that the provider has cached.
CACHED = 2


@pytest.fixture(scope="module")
def simulator() -> Iterator[Simulator]:
    failures = [{"mode": "400", "job": "refuse", "times": 100}]
    with Simulator(latency=0.02, keys=[KEY], failures=failures, cached_tokens=CACHED) as made:
        yield made


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory, simulator: Simulator) -> Iterator[Site]:
    with Site(tmp_path_factory.mktemp("api"), simulator, model=PRICES, tables=DEDUPED) as made:
        made.start_worker(ready=False)
        yield made


api = api_fixture()
sdk = sdk_fixture()
other = sdk_fixture(name="other", key=TWO)


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
    assert done.usage.input_tokens_details.cached_tokens == 20 * CACHED
    assert done.usage.output_tokens_details.reasoning_tokens == 0
    times = [done.created_at, done.in_progress_at, done.finalizing_at, done.completed_at]
    assert None not in times
    assert times == sorted(times)  # type: ignore[type-var]
    assert done.expires_at == pytest.approx(done.created_at + 7200, abs=1)
    assert (done.failed_at, done.expired_at, done.cancelled_at, done.errors) == (None, None, None, None)


@pytest.mark.long
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


@pytest.mark.long
def test_the_command_line_shows_the_same_batch(site: Site, done: openai.types.Batch) -> None:
    status = site.status(done.id)
    assert (status["status"], status["workflow"], status["input"]) == ("completed", "nightly", "tickets.jsonl")
    assert status["request_counts"] == {"total": 21, "completed": 20, "failed": 1}


def test_lists_are_paged_by_id_newest_first(sdk: OpenAI) -> None:
    files = [upload(sdk, jobs(1)) for _ in range(5)]
    batches = [submit(sdk, file).id for file in files]
    assert [each.id for each in sdk.batches.list(limit=2)][:5] == batches[::-1]
    page = sdk.batches.list(limit=2)
    assert page.has_more
    assert [each.id for each in page.data] == batches[:-3:-1]
    assert [each.id for each in sdk.batches.list(after=batches[1], limit=1).data] == [batches[0]]
    uploads = [each.id for each in sdk.files.list(limit=2, purpose="batch")]
    assert uploads[:5] == files[::-1]
    assert [each.id for each in sdk.files.list(limit=3, purpose="batch", order="asc")] == uploads[::-1]
    for batch in batches:
        ended(sdk, batch)
    outputs = [each.id for each in sdk.files.list(purpose="batch_output")]
    assert {sdk.batches.retrieve(batch).output_file_id for batch in batches} <= set(outputs)


ASKING = {"model": "small", "input": "hi"}

PROBLEMS = [
    (b"not json", "invalid_json_line", None),
    (json.dumps({**job(2), "custom_id": 7}).encode(), "invalid_custom_id", "custom_id"),
    (json.dumps({"url": "/v1/chat/completions", "body": {}}).encode(), "missing_required_parameter", "custom_id"),
    (json.dumps({**job(4), "url": "/v1/embeddings"}).encode(), "invalid_value", "body"),
    (json.dumps({**job(5), "url": "/v1/responses", "body": ASKING}).encode(), "invalid_url", "url"),
    (json.dumps({**job(6), "method": "GET"}).encode(), "invalid_method", "method"),
    (json.dumps(job(7, stream=True)).encode(), "streaming_unsupported", "body.stream"),
    (json.dumps(job(8, model="gpt-9")).encode(), "model_not_found", "body.model"),
    (json.dumps({**job(9), "body": {"messages": []}}).encode(), "missing_required_parameter", "body.model"),
    (json.dumps({**job(10), "extra": 1}).encode(), "unknown_parameter", None),
]  # fmt: skip


def test_each_problem_of_an_input_is_reported_with_its_line_and_openais_code(sdk: OpenAI) -> None:
    good = json.dumps(job(1)).encode()
    lines = [good, *(line for line, _, _ in PROBLEMS), good]
    batch = submit(sdk, upload(sdk, b"\n".join(lines)))
    found = ended(sdk, batch.id)
    assert found.status == "failed"
    assert found.failed_at is not None
    assert found.errors is not None
    by_line: dict[int, list[tuple[Any, Any]]] = {}
    for each in found.errors.data or []:
        by_line.setdefault(each.line or 0, []).append((each.code, each.param))
        assert each.message
    for number, (_, code, param) in enumerate(PROBLEMS, 2):
        assert (code, param) in by_line[number], (number, by_line[number])
    assert by_line[len(lines)] == [("duplicate_custom_id", "custom_id")]
    assert 1 not in by_line


def test_an_empty_file_fails_its_batch(sdk: OpenAI) -> None:
    found = ended(sdk, submit(sdk, upload(sdk, b"\n")).id)
    assert found.errors is not None
    assert [(each.code, each.line) for each in found.errors.data or []] == [("empty_file", None)]


def test_a_batch_that_has_completed_cannot_be_cancelled(sdk: OpenAI, done: openai.types.Batch) -> None:
    with pytest.raises(openai.BadRequestError, match="completed"):
        sdk.batches.cancel(done.id)


def test_create_needs_an_input_file_that_is_the_clients_own(
    sdk: OpenAI, other: OpenAI, done: openai.types.Batch
) -> None:
    with pytest.raises(openai.NotFoundError):
        submit(sdk, "file-" + "0" * 32)
    with pytest.raises(openai.NotFoundError):
        submit(other, done.input_file_id)
    assert done.output_file_id is not None
    with pytest.raises(openai.BadRequestError) as found:
        submit(sdk, done.output_file_id)
    assert found.value.param == "input_file_id"
    with pytest.raises(openai.NotFoundError):
        submit(other, done.output_file_id)


def test_a_client_can_do_nothing_with_what_is_anothers(sdk: OpenAI, other: OpenAI, done: openai.types.Batch) -> None:
    assert done.output_file_id is not None
    for file in (done.input_file_id, done.output_file_id):
        for act in (other.files.retrieve, other.files.content, other.files.delete):
            with pytest.raises(openai.NotFoundError):
                act(file)
    for do in (other.batches.retrieve, other.batches.cancel):
        with pytest.raises(openai.NotFoundError):
            do(done.id)
    mine = upload(other, jobs(1))
    assert [each.id for each in other.files.list()] == [mine]
    assert list(other.batches.list()) == []
    with pytest.raises(openai.BadRequestError):
        list(other.batches.list(after=done.id))
    with pytest.raises(openai.BadRequestError):
        list(other.files.list(after=done.input_file_id))
    with pytest.raises(openai.NotFoundError):
        sdk.files.retrieve(mine)


def workflow(batch: openai.types.Batch) -> str:
    return str(batch.model_dump()["overnight"]["workflow"])


def test_a_client_uses_the_workflows_that_it_was_given(sdk: OpenAI, other: OpenAI) -> None:
    assert workflow(submit(sdk, upload(sdk, jobs(1)))) == "nightly"
    assert workflow(submit(sdk, upload(sdk, jobs(1)), metadata={"workflow": "adhoc"})) == "adhoc"
    assert workflow(submit(other, upload(other, jobs(1)))) == "adhoc"
    for client, name in ((sdk, "secret"), (other, "nightly"), (other, "nowhere")):
        with pytest.raises(openai.NotFoundError) as found:
            submit(client, upload(client, jobs(1)), metadata={"workflow": name})
        assert found.value.code == "unknown_workflow"


def test_equal_lines_are_asked_once_if_the_workflow_says_so(sdk: OpenAI, simulator: Simulator) -> None:
    file = upload(sdk, [job(number, text="the same question") for number in range(1, 6)])
    batch = ended(sdk, submit(sdk, file, metadata={"workflow": "adhoc"}).id)
    assert batch.request_counts is not None
    assert batch.request_counts.completed == 5
    assert [entry["job"] for entry in simulator.journal()].count("the same question") == 1
    answers = [json.loads(line) for line in sdk.files.content(batch.output_file_id or "").text.splitlines()]
    assert [line["overnight"].get("copy_of") for line in answers] == [None, *["job-1"] * 4]


def test_an_idempotency_key_makes_one_batch(sdk: OpenAI, other: OpenAI) -> None:
    file = upload(sdk, jobs(1))
    once = {"extra_headers": {"Idempotency-Key": "night-1"}}
    first = submit(sdk, file, **once)
    assert submit(sdk, file, **once).id == first.id
    assert submit(sdk, file).id != first.id
    assert submit(other, upload(other, jobs(1)), **once).id != first.id
    with pytest.raises(openai.ConflictError):
        submit(sdk, file, **once, completion_window="1h")
    sdk.files.delete(file)
    assert submit(sdk, file, **once).id == first.id
    with pytest.raises(openai.NotFoundError):
        submit(sdk, file)


def test_results_can_be_deleted(sdk: OpenAI, site: Site) -> None:
    batch = submit(sdk, upload(sdk, [job(1), job(2, text="refuse")])).id
    found = ended(sdk, batch)
    for file, name in ((found.output_file_id, "output.jsonl"), (found.error_file_id, "errors.jsonl")):
        assert file is not None
        path = site.folder / ".overnight" / "files" / batch / name
        assert path.exists()
        assert sdk.files.delete(file).deleted
        assert not path.exists()
        with pytest.raises(openai.NotFoundError):
            sdk.files.content(file)
    assert (sdk.batches.retrieve(batch).output_file_id, sdk.batches.retrieve(batch).error_file_id) == (None, None)
    sdk.files.delete(found.input_file_id)
    with pytest.raises(openai.NotFoundError):
        sdk.files.retrieve(found.input_file_id)
    assert not (site.folder / ".overnight" / "files" / "files" / found.input_file_id).exists()


def test_output_expires_as_the_batch_says(sdk: OpenAI, done: openai.types.Batch) -> None:
    more = {"output_expires_after": {"anchor": "created_at", "seconds": 3600}}
    found = ended(sdk, submit(sdk, upload(sdk, jobs(1)), **more).id)
    assert found.output_file_id is not None
    file = sdk.files.retrieve(found.output_file_id)
    assert file.expires_at == file.created_at + 3600
    assert done.output_file_id is not None
    assert sdk.files.retrieve(done.output_file_id).expires_at is None
