"""Batches over HTTP while they run: their output, a cancel, a deadline."""

import json
from collections.abc import Iterator

import httpx
import openai
import pytest
from openai import OpenAI

from tests.simulator import Simulator
from tests.support.api import CLIENTS, Api, ended, sdk_fixture, served, submit, upload
from tests.support.site import Site, jobs, wait_for

pytestmark = pytest.mark.long

#: A model that answers a job a second.
SLOW = "[providers.acme.models.slow]\nrpm = 60\n"


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory, simulator: Simulator) -> Iterator[Api]:
    with Site(tmp_path_factory.mktemp("api"), simulator, tables=SLOW + CLIENTS) as site:
        site.start_worker(ready=False)
        with served(site) as found:
            yield found


sdk = sdk_fixture()


def test_the_output_of_a_running_batch_can_be_read_and_resumed(api: Api, sdk: OpenAI) -> None:
    batch = submit(sdk, upload(sdk, jobs(60, model="slow"))).id
    with api.http() as client:
        name = output(client, batch)
        first = wait_for(lambda: so_far(client, name), what="the first answers")
        assert first.endswith(b"\n")
        assert sdk.batches.retrieve(batch).output_file_id is None
        with pytest.raises(openai.ConflictError):
            sdk.files.delete(name)

        def rest() -> bytes:
            answer = client.get(f"files/{name}/content", headers={"range": f"bytes={len(first)}-"})
            assert answer.status_code in {206, 416}
            return answer.content

        more = wait_for(rest, what="more answers")
        sdk.batches.cancel(batch)
        ended(sdk, batch)
        whole = client.get(f"files/{name}/content")
    assert whole.content.startswith(first + more)
    assert "x-incomplete" not in whole.headers


def output(client: httpx.Client, batch: str) -> str:
    return str(client.get(f"batches/{batch}").json()["overnight"]["output_file_id"])


def so_far(client: httpx.Client, name: str) -> bytes:
    answer = client.get(f"files/{name}/content")
    assert answer.status_code == 200
    assert answer.headers["x-incomplete"] == "true"
    assert int(answer.headers["x-next-offset"]) == len(answer.content)
    return answer.content


def test_a_cancelled_batch_keeps_what_was_answered(api: Api, sdk: OpenAI) -> None:
    batch = submit(sdk, upload(sdk, jobs(60, model="slow"))).id
    with api.http() as client:
        wait_for(lambda: so_far(client, output(client, batch)), what="the first answers")
    assert sdk.batches.cancel(batch).status in {"cancelling", "cancelled"}
    found = ended(sdk, batch)
    assert found.status == "cancelled"
    assert found.cancelled_at is not None
    assert found.cancelling_at is not None
    assert found.output_file_id is not None
    answers = sdk.files.content(found.output_file_id).text.splitlines()
    assert found.request_counts is not None
    assert 0 < len(answers) == found.request_counts.completed < 60
    assert found.request_counts.total == 60
    assert sdk.batches.cancel(batch).status == "cancelled"
    assert found.error_file_id is not None
    codes = {json.loads(line)["error"]["code"] for line in sdk.files.content(found.error_file_id).text.splitlines()}
    assert codes == {"batch_cancelled"}


def test_a_batch_without_time_expires(sdk: OpenAI) -> None:
    found = ended(sdk, submit(sdk, upload(sdk, jobs(30, model="slow")), completion_window="2s").id)
    assert found.status == "expired"
    assert found.expired_at is not None
