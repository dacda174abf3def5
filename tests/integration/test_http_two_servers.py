"""Two HTTP servers over one Redis and one storage, a folder or an object store: clients see one server."""

import json
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import httpx
import openai
import pytest
from openai import OpenAI

from tests.simulator import Simulator
from tests.support.api import CLIENTS, ended, jsonl, served, submit, upload
from tests.support.s3 import BUCKET, Store, s3_fixture
from tests.support.site import KEY, Site, jobs, wait_for

pytestmark = [pytest.mark.long, pytest.mark.filterwarnings("ignore")]  # warnings of botocore and werkzeug

#: A model that answers a job a second.
SLOW = "[providers.acme.models.slow]\nrpm = 60\n"

s3 = s3_fixture()


@pytest.fixture(scope="module")
def simulator() -> Iterator[Simulator]:
    with Simulator(latency=0.02, keys=[KEY]) as made:
        yield made


@pytest.fixture(params=["a folder", "s3"])
def site(tmp_path: Path, simulator: Simulator, s3: Store, request: pytest.FixtureRequest) -> Iterator[Site]:
    more = f'storage = "s3://{BUCKET}/server"' if request.param == "s3" else ""
    with Site(tmp_path, simulator, more=more, tables=SLOW + CLIENTS, environment=s3.environment()) as made:
        made.start_worker(ready=False)
        yield made


@pytest.fixture
def sdks(site: Site) -> Iterator[tuple[OpenAI, OpenAI]]:
    """The same client at each of two servers."""
    with ExitStack() as stack:
        first, second = (stack.enter_context(served(site)) for _ in range(2))
        yield stack.enter_context(first.sdk()), stack.enter_context(second.sdk())


def test_what_one_server_takes_the_other_serves(sdks: tuple[OpenAI, OpenAI], site: Site) -> None:
    one, two = sdks
    lines = jobs(30)
    file = upload(one, lines)
    assert two.files.retrieve(file).bytes == len(jsonl(lines))
    assert two.files.content(file).content == jsonl(lines)
    batch = submit(two, file).id
    done = ended(one, batch)
    assert [each.id for each in one.batches.list()] == [each.id for each in two.batches.list()] == [batch]
    assert done.output_file_id is not None
    answers = [json.loads(line) for line in one.files.content(done.output_file_id).text.splitlines()]
    assert {line["custom_id"] for line in answers} == {line["custom_id"] for line in lines}
    assert two.files.content(done.output_file_id).content == one.files.content(done.output_file_id).content
    assert site.results(batch)[0] == answers
    assert [each.id for each in one.files.list()] == [each.id for each in two.files.list()]
    for name in (file, done.output_file_id):
        assert two.files.delete(name).deleted
        with pytest.raises(openai.NotFoundError):
            one.files.content(name)


def test_a_batch_that_runs_is_read_at_one_and_cancelled_at_the_other(sdks: tuple[OpenAI, OpenAI]) -> None:
    one, two = sdks
    batch = submit(one, upload(two, jobs(300, model="slow")))
    name = batch.model_dump()["overnight"]["output_file_id"]
    some = wait_for(lambda: read(two, name).content, what="the first answers")
    assert len(some.splitlines()) < 300
    rest = read(one, name, {"Range": "bytes=100-"})
    assert (rest.status_code, rest.headers["x-incomplete"]) == (206, "true")
    assert rest.content.startswith(some[100:])
    two.batches.cancel(batch.id)
    assert one.batches.retrieve(batch.id).status in {"cancelling", "cancelled"}


def read(sdk: OpenAI, name: str, headers: dict[str, str] | None = None) -> httpx.Response:
    """A file's content, or the part that the headers ask for."""
    return sdk.files.with_raw_response.content(name, extra_headers=headers).http_response


def test_a_large_upload_and_its_download_hold_little_memory(site: Site) -> None:
    """Larger than the pieces in which an object store is written, and than what its library would read ahead."""
    line = b"x" * 999 + b"\n"
    with served(site) as api, api.sdk() as sdk:
        upload(sdk, line)
        before = api.process.peak()
        file = upload(sdk, line * 80_000)
        with sdk.files.with_streaming_response.content(file) as reading:
            assert sum(map(len, reading.iter_bytes())) == 80_000_000
        assert api.process.peak() - before < 80_000_000
