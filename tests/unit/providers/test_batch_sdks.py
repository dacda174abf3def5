"""The wire formats are those of the official SDKs: their types parse what the simulator and the clients exchange.

Objects are validated strictly against the SDK's models, and the SDKs themselves run provider batches at the simulator.
"""

import re
from collections.abc import Iterable, Iterator
from typing import Any

import orjson
import pytest
from anthropic import Anthropic
from anthropic import NotFoundError as AnthropicNotFoundError
from anthropic.types.messages import DeletedMessageBatch, MessageBatch, MessageBatchIndividualResponse
from anthropic.types.messages import batch_create_params as anthropic_params
from openai import NotFoundError, OpenAI
from openai.types import (
    Batch,
    CreateEmbeddingResponse,
    EmbeddingCreateParams,
    FileDeleted,
    FileObject,
    batch_create_params,
)
from openai.types.chat import ChatCompletion, completion_create_params
from openai.types.responses import Response, response_create_params
from pydantic import TypeAdapter

from tests.simulator import Simulator, expected_text
from tests.support.batch_apis import KEY, Connect, body, chunk, ended, sent
from workers.providers.batch_anthropic import AnthropicBatches
from workers.providers.batch_api import BatchApi, ChunkFile, Result
from workers.providers.batch_openai import OpenAIBatches
from workers.providers.endpoints import CHAT, EMBEDDINGS, RESPONSES

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


def read(api: BatchApi, line: bytes) -> Result:
    """A line of results."""
    found = api.read(line)
    assert found is not None
    return found


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


def test_an_upload_says_what_openais_sdk_would_say(connect: Connect, openai: OpenAI) -> None:
    api = connect("openai")
    ours = openai.files.retrieve(api.upload(KEY, chunk(api)))
    content = b"".join(chunk(api).read())
    theirs = openai.files.create(
        file=("chunk_one.jsonl", content),
        purpose="batch",
        expires_after={"anchor": "created_at", "seconds": 14 * 86_400},
    )
    for each in (ours, theirs):
        assert (each.filename, each.bytes, each.purpose) == ("chunk_one.jsonl", len(content), "batch")
        assert each.expires_at == each.created_at + 14 * 86_400


@pytest.mark.parametrize(
    ("url", "body", "asked", "answered"),
    [
        (RESPONSES, {"input": "Hi"}, response_create_params.ResponseCreateParamsNonStreaming, Response),
        (EMBEDDINGS, {"input": ["Hi", "You"]}, EmbeddingCreateParams, CreateEmbeddingResponse),
    ],
)
def test_openais_types_parse_the_lines_of_each_url(
    connect: Connect, url: str, body: dict[str, Any], asked: Any, answered: Any
) -> None:
    api = connect("openai")
    line = api.encode("1", url, {"model": "small", **body})
    assert line is not None
    parsed(asked, orjson.loads(line)["body"])
    batch = ended(api, sent(api, ChunkFile("chunk_one", "small", url, 1, len(line), lambda: [line])))
    (content,) = (b"".join(api.download(KEY, file_id)) for file_id in batch.files)
    result = orjson.loads(content)
    assert result.keys() == {"id", "custom_id", "response", "error"}
    parsed(answered, result["response"]["body"])
    assert api.answer(url, read(api, content)).usage is not None


def test_openais_sdk_raises_its_errors_for_what_is_not_there(openai: OpenAI) -> None:
    for ask in (openai.batches.retrieve, openai.batches.cancel, openai.files.retrieve, openai.files.delete):
        with pytest.raises(NotFoundError) as refused:
            ask("nothing")
        assert refused.value.code == "not_found"


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


def test_anthropics_types_parse_the_create_as_it_is_sent(connect: Connect, monkeypatch: pytest.MonkeyPatch) -> None:
    api = connect("anthropic")
    assert isinstance(api, AnthropicBatches)
    wire, ask = bytearray(), api.http.ask

    def seen(*given: Any, content: Iterable[bytes], **more: Any) -> dict[str, Any]:
        wire.extend(b"".join(content))
        return ask(*given, content=[bytes(wire)], **more)

    monkeypatch.setattr(api.http, "ask", seen)
    sent(api, chunk(api))
    found = parsed(anthropic_params.BatchCreateParams, orjson.loads(wire))
    names = [each["custom_id"] for each in found["requests"]]
    assert len(names) == 6
    assert all(re.fullmatch("[a-zA-Z0-9_-]{1,64}", name) for name in names)
    longest = f"chunk_{'f' * 24}-{10**9}"
    assert re.fullmatch("[a-zA-Z0-9_-]{1,64}", longest)


def test_anthropics_sdk_sees_a_batch_cancelled(connect: Connect, simulator: Simulator, anthropic: Anthropic) -> None:
    simulator.configure(batch_delay=60.0)
    api = connect("anthropic")
    batch = sent(api, chunk(api))
    batches = anthropic.messages.batches
    raw = orjson.loads(batches.with_raw_response.cancel(batch.id).http_response.content)
    assert parsed(MessageBatch, raw).processing_status == "canceling"
    ended(api, batch)
    for line in b"".join(api.download(KEY, batch.id)).splitlines():
        assert parsed(MessageBatchIndividualResponse, orjson.loads(line)).result.type in {"succeeded", "canceled"}
    gone = orjson.loads(batches.with_raw_response.delete(batch.id).http_response.content)
    assert parsed(DeletedMessageBatch, gone).id == batch.id
    with pytest.raises(AnthropicNotFoundError):
        batches.retrieve("msgbatch_nothing")


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
