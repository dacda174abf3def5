"""The wire formats are those of the official SDKs: their types parse what the simulator and the clients exchange.

Objects are validated strictly against the SDK's models, and the SDKs themselves run provider batches at the simulator.
"""

from collections.abc import Iterator
from typing import Any

import orjson
import pytest
from anthropic import Anthropic
from anthropic.types.messages import MessageBatch, MessageBatchIndividualResponse
from anthropic.types.messages import batch_create_params as anthropic_params
from openai import OpenAI
from openai.types import Batch, FileDeleted, FileObject, batch_create_params
from openai.types.chat import ChatCompletion, completion_create_params
from pydantic import TypeAdapter

from tests.simulator import Simulator, expected_text
from tests.support.batch_apis import KEY, Connect, body, chunk, ended, sent
from workers.providers.batch_openai import OpenAIBatches
from workers.providers.endpoints import CHAT

FAULTS = [
    [],
    [{"mode": "expires"}],
    [{"mode": "token_limit", "limit": 100}],
    [{"mode": "errors_4xx"}],
    [{"mode": "late_file", "seconds": 0.2}],
]


@pytest.fixture
def simulator(simulator: Simulator) -> Simulator:
    simulator.configure(batch_delay=0.05)
    return simulator


@pytest.fixture
def openai(simulator: Simulator) -> Iterator[OpenAI]:
    with OpenAI(api_key=KEY, base_url=f"{simulator.base_url}/v1", max_retries=0) as made:
        yield made


@pytest.fixture
def anthropic(simulator: Simulator) -> Iterator[Anthropic]:
    with Anthropic(api_key=KEY, base_url=simulator.base_url, max_retries=0) as made:
        yield made


def parsed(kind: Any, value: Any) -> Any:
    """The value as the SDK's type reads it; raises if a field is missing or of another type."""
    return TypeAdapter(kind).validate_python(value)


@pytest.mark.parametrize("faults", FAULTS)
def test_openais_types_parse_every_object(
    connect: Connect, simulator: Simulator, openai: OpenAI, faults: list[dict[str, Any]]
) -> None:
    simulator.configure(batch_faults=faults)
    api = connect("openai")
    batch = ended(api, sent(api, chunk(api)))
    raw = openai.batches.with_raw_response.retrieve(batch.id)
    shown = parsed(Batch, orjson.loads(raw.content))
    assert shown.id == batch.id
    listed = orjson.loads(openai.batches.with_raw_response.list().content)
    assert [parsed(Batch, each).id for each in listed["data"]] == [batch.id]
    assert [each.id for each in openai.batches.list(limit=1)] == [batch.id]
    parsed(FileObject, orjson.loads(openai.files.with_raw_response.retrieve(shown.input_file_id).content))
    for line in openai.files.content(shown.input_file_id).iter_lines():
        value = orjson.loads(line)
        assert value.keys() == {"custom_id", "method", "url", "body"}
        parsed(completion_create_params.CompletionCreateParamsNonStreaming, value["body"])
    if shown.output_file_id:
        for line in openai.files.content(shown.output_file_id).iter_lines():
            parsed(ChatCompletion, orjson.loads(line)["response"]["body"])
    parsed(FileDeleted, orjson.loads(openai.files.with_raw_response.delete(shown.input_file_id).content))


def test_openais_types_parse_what_creates_a_provider_batch(connect: Connect) -> None:
    api = connect("openai")
    assert isinstance(api, OpenAIBatches)
    found = parsed(batch_create_params.BatchCreateParams, api.order("file-1", chunk(api)))
    assert found == api.order("file-1", chunk(api))


def test_openais_sdk_runs_a_provider_batch_that_is_read_here(connect: Connect, openai: OpenAI) -> None:
    api = connect("openai")
    file = openai.files.create(file=("mine.jsonl", b"".join(chunk(api).read())), purpose="batch")
    made = openai.batches.create(input_file_id=file.id, endpoint=CHAT, completion_window="24h")
    batch = ended(api, api.get(KEY, made.id))
    assert api.find(KEY, file.id, chunk(api)) is not None
    assert openai.batches.retrieve(batch.id).status == "completed"


def test_openais_sdk_sees_a_batch_cancelled(connect: Connect, simulator: Simulator, openai: OpenAI) -> None:
    simulator.configure(batch_delay=60.0)
    api = connect("openai")
    batch = sent(api, chunk(api))
    raw = openai.batches.with_raw_response.cancel(batch.id)
    assert parsed(Batch, orjson.loads(raw.content)).status == "cancelling"
    assert parsed(Batch, orjson.loads(openai.batches.with_raw_response.retrieve(batch.id).content)).id == batch.id
    assert ended(api, batch).state == "cancelled"


@pytest.mark.parametrize("faults", [[], [{"mode": "expires"}], [{"mode": "errors_4xx"}]])
def test_anthropics_types_parse_every_object(
    connect: Connect, simulator: Simulator, anthropic: Anthropic, faults: list[dict[str, Any]]
) -> None:
    simulator.configure(batch_faults=faults)
    api = connect("anthropic")
    batch = sent(api, chunk(api))
    batches = anthropic.messages.batches
    parsed(MessageBatch, orjson.loads(batches.with_raw_response.retrieve(batch.id).http_response.content))
    batch = ended(api, batch)
    shown = parsed(MessageBatch, orjson.loads(batches.with_raw_response.retrieve(batch.id).http_response.content))
    assert (shown.processing_status, shown.request_counts.processing) == ("ended", 0)
    assert [each.id for each in batches.list(limit=1)] == [batch.id]
    for line in b"".join(api.download(KEY, batch.id)).splitlines():
        value = orjson.loads(line)
        found = parsed(MessageBatchIndividualResponse, value)
        read = api.read(line)
        assert read is not None
        assert found.custom_id == f"chunk_one-{read.custom_id}"
    assert batches.delete(batch.id).type == "message_batch_deleted"


def test_anthropics_types_parse_what_creates_a_provider_batch(connect: Connect) -> None:
    api = connect("anthropic")
    lines = [orjson.loads(line) for line in chunk(api).read()]
    parsed(anthropic_params.BatchCreateParams, {"requests": lines})


def test_anthropics_sdk_runs_a_provider_batch_that_is_read_here(connect: Connect, anthropic: Anthropic) -> None:
    api = connect("anthropic")
    requests: Any = [{"custom_id": f"chunk_one-{number}", "params": body(number)} for number in (1, 2)]
    made = anthropic.messages.batches.create(requests=requests)
    batch = ended(api, api.get(KEY, made.id))
    found = [api.read(line) for line in b"".join(api.download(KEY, batch.files[0])).splitlines()]
    texts = {
        each.custom_id: api.answer("/v1/messages", each).body["content"][0]["text"]
        for each in found
        if each is not None
    }
    assert texts == {str(number): expected_text(body(number)) for number in (1, 2)}
