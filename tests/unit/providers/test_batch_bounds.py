"""Requests to a Batch API are bounded in time and size, lists are read to their end, and tools go there and back."""

import time
import tracemalloc

import pytest

from tests.simulator import Simulator
from tests.support.batch_apis import KEY, Connect, chunk, ended, results, sent
from workers.providers import batch_http, batch_openai
from workers.providers.batch_api import ChunkFile
from workers.providers.errors import CallFailed, Interrupted


@pytest.fixture
def simulator(simulator: Simulator) -> Simulator:
    simulator.configure(batch_delay=0.05)
    return simulator


@pytest.mark.parametrize("fault", ["hang_create", "hang_list"])
def test_a_provider_that_hangs_times_out(connect: Connect, simulator: Simulator, fault: str) -> None:
    api = connect("openai", timeout=0.3)
    file = chunk(api)
    file_id = api.upload(KEY, file)
    simulator.configure(batch_faults=[{"mode": fault}])
    with pytest.raises(Interrupted) as raised:
        api.find(KEY, "", file) if fault == "hang_list" else api.create(KEY, file_id, file)
    assert raised.value.billed


def test_a_provider_that_drips_times_out(
    connect: Connect, simulator: Simulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batch_http, "WHOLE", 0.3)
    api = connect("openai")
    sent(api, chunk(api))
    simulator.configure(batch_faults=[{"mode": "drip_list", "seconds": 5.0}])
    with pytest.raises(CallFailed, match="too_slow"):
        api.find(KEY, "", chunk(api))
    assert 30.0 <= batch_http.PIECE <= 120.0


def test_a_list_that_is_too_large_is_not_read(connect: Connect, monkeypatch: pytest.MonkeyPatch) -> None:
    api = connect("openai")
    sent(api, chunk(api))
    monkeypatch.setattr(batch_http, "LARGEST_ANSWER", 100)
    with pytest.raises(CallFailed, match="too_slow"):
        api.find(KEY, "", chunk(api))


@pytest.mark.parametrize("limit", ["LARGEST_FILE", "TRANSFER"])
def test_a_file_that_is_too_large_or_too_slow_is_not_read(
    connect: Connect, monkeypatch: pytest.MonkeyPatch, limit: str
) -> None:
    api = connect("openai")
    batch = ended(api, sent(api, chunk(api)))
    monkeypatch.setattr(batch_http, limit, 0)
    with pytest.raises(CallFailed, match="too_slow"):
        list(api.download(KEY, batch.files[0]))


def test_lines_that_are_not_taken_in_time_never_arrive(
    connect: Connect, simulator: Simulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    api = connect("anthropic")
    monkeypatch.setattr(type(api), "create_time", 0.0)
    with pytest.raises(Interrupted, match="too_slow"):
        sent(api, chunk(api))
    assert simulator.batches() == []


def test_the_key_goes_to_no_other_host(connect: Connect) -> None:
    api = connect("openai")
    with pytest.raises(CallFailed, match="broken_body"):
        api.http.ask("GET", "http://localhost:1/v1/files", KEY)  # type: ignore[attr-defined]


@pytest.mark.long
def test_the_second_page_of_a_real_list_is_read(connect: Connect) -> None:
    api, since = connect("openai"), time.time()
    first = sent(api, chunk(api, "chunk_mine", 1))
    for number in range(batch_openai.PAGE + 1):
        sent(api, chunk(api, f"chunk_{number}", 1))
    found = api.find(KEY, "", chunk(api, "chunk_mine", 1), since)
    assert found is not None
    assert found.id == first.id


def test_more_tokens_than_the_queue_takes_fail_for_now(connect: Connect, simulator: Simulator) -> None:
    simulator.configure(batch_enqueued_tokens=150, batch_delay=30.0)
    api = connect("openai")
    assert sent(api, chunk(api, "chunk_one", 3)).phase == "running"
    full = ended(api, sent(api, chunk(api, "chunk_two", 6)))
    assert (full.phase, full.for_now, full.enqueued_limit) == ("failed", True, 150)


@pytest.mark.parametrize("name", ["openai", "mistral", "gemini"])
def test_a_tool_is_called_through_every_shape(connect: Connect, name: str, simulator: Simulator) -> None:
    simulator.configure(call_tools=True)
    api = connect(name)
    schema = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
    tools = [{"type": "function", "function": {"name": "weather", "parameters": schema}}]
    file = chunk(api, lines=1, tools=tools)
    (result,) = results(api, ended(api, sent(api, file)))
    assert result is not None
    choice = api.answer(file.url, result).body["choices"][0]
    assert choice["finish_reason"] == "tool_calls"
    assert choice["message"]["tool_calls"][0]["function"] == {
        "name": "weather",
        "arguments": '{"city":"city of job 1"}',
    }


@pytest.mark.long
@pytest.mark.parametrize("name", ["openai", "anthropic", "mistral", "gemini"])
def test_a_large_chunk_goes_there_and_back_in_little_memory(connect: Connect, name: str) -> None:
    api, lines = connect(name), 60
    text = "word " * 100_000  # half a megabyte a line
    url = chunk(api, lines=1).url
    line = api.encode("1", url, {"model": "m", "max_tokens": 5, "messages": [{"role": "user", "content": text}]})
    assert line is not None
    file = ChunkFile("chunk_large", "m", url, lines, lines * len(line), lambda: (line for _ in range(lines)))
    tracemalloc.start()
    try:
        batch = ended(api, sent(api, file))
        received = sum(1 for file_id in batch.files for _ in api.download(KEY, file_id))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert received
    assert file.size > 30_000_000 > 4 * peak


@pytest.mark.parametrize(
    ("url", "field"), [("/v1/responses", "output"), ("/v1/embeddings", "data")], ids=["responses", "embeddings"]
)
def test_other_urls_go_there_and_back(connect: Connect, url: str, field: str) -> None:
    api = connect("openai")
    line = api.encode("1", url, {"model": "small", "input": "Hello"})
    assert line is not None
    (result,) = results(api, ended(api, sent(api, ChunkFile("chunk_one", "small", url, 1, len(line), lambda: [line]))))
    assert result is not None
    answer = api.answer(url, result)
    assert answer.body[field]
    assert answer.usage is not None
