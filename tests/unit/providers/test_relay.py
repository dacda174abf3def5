"""Streams that are passed on as they come: what the reader gets, what is kept, and how failures end."""

import asyncio
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from limits.counting import Usage
from tests.simulator import Simulator
from tests.support.raw_provider import Call, RawProvider, event, streamed
from workers.providers import connect
from workers.providers.answer import Answer
from workers.providers.bodies import CHAT, MESSAGES, RESPONSES
from workers.providers.errors import ProviderError

KEY = "sk-test-aBcDeFgHiJkLmNoPqRsTuVwXyZ"


class Taken:
    """A reader that keeps each write."""

    def __init__(self) -> None:
        self.writes: list[bytes] = []

    async def write(self, events: bytes) -> None:
        self.writes.append(events)

    @property
    def text(self) -> str:
        return b"".join(self.writes).decode()


def asked(url: str, **more: Any) -> dict[str, Any]:
    said = {"input": "hi"} if url == RESPONSES else {"messages": [{"role": "user", "content": "hi"}]}
    return {"model": "small", "stream": True, "max_tokens": 50, **said, **more}


def relayed(base_url: str, body: dict[str, Any], url: str = CHAT, api: str = "openai") -> tuple[Taken, Any]:
    """What a reader got, and the answer or the error."""

    async def call() -> tuple[Taken, Any]:
        taken, provider = Taken(), connect("acme", api, base_url, 10.0)
        try:
            return taken, await provider.call(url, body, model="small", key=KEY, sink=taken)
        except ProviderError as error:
            return taken, error
        finally:
            await provider.close()

    return asyncio.run(call())


@pytest.mark.parametrize(
    ("url", "api", "last"),
    [(CHAT, "openai", "data: [DONE]"), (RESPONSES, "openai", "response.completed"), (MESSAGES, "anthropic", "_stop")],
)
def test_a_stream_is_passed_on_and_its_usage_is_kept(simulator: Simulator, url: str, api: str, last: str) -> None:
    taken, answer = relayed(simulator.base_url, asked(url), url, api)
    assert isinstance(answer, Answer)
    assert answer.usage is not None
    assert answer.usage.output == 8
    assert last in taken.text.rstrip().rpartition("\n\n")[2]
    assert "answer" in taken.text


def test_a_usage_is_passed_on_only_if_it_was_requested(simulator: Simulator) -> None:
    without, answer = relayed(simulator.base_url, asked(CHAT))
    wanted, other = relayed(simulator.base_url, asked(CHAT, stream_options={"include_usage": True}))
    assert '"usage":{' not in without.text
    assert '"usage":{' in wanted.text
    assert answer.usage == other.usage


USAGE = {"prompt_tokens": 3, "completion_tokens": 2}
WHOLE = event("one") + event("two") + event(reason="stop", usage=USAGE) + b"data: [DONE]\n\n"


@pytest.fixture
def raw() -> Iterator[Callable[[bytes], RawProvider]]:
    made: list[RawProvider] = []

    def provider(answer: bytes) -> RawProvider:
        def same(_call: Call) -> bytes:
            return answer

        made.append(RawProvider(same))
        return made[-1].__enter__()

    yield provider
    for each in made:
        each.__exit__(None, None, None)


@pytest.mark.parametrize("size", [1, 2, 7, 1_000])
@pytest.mark.parametrize("end", [b"\n", b"\r\n"])
def test_pieces_of_any_size_are_passed_on_in_whole_events(raw: Any, size: int, end: bytes) -> None:
    stream = WHOLE.replace(b"\n", end)
    pieces = [stream[at : at + size] for at in range(0, len(stream), size)]
    taken, answer = relayed(raw(streamed(*pieces)).base_url, asked(CHAT))
    assert taken.text.encode() == stream
    assert all(write.endswith(end * 2) for write in taken.writes)
    assert answer.usage == Usage(3, output=2)


def test_an_error_before_the_first_event_passes_nothing_on(raw: Any) -> None:
    overloaded = b'event: error\ndata: {"type":"error","error":{"type":"overloaded_error","message":"busy"}}\n\n'
    taken, error = relayed(raw(streamed(overloaded)).base_url, asked(MESSAGES), MESSAGES, "anthropic")
    assert isinstance(error, ProviderError)
    assert error.code == "overloaded_error"
    assert not taken.writes


def test_an_error_in_the_middle_is_not_passed_on(raw: Any) -> None:
    told = b'data: {"error":{"message":"it broke","code":"server_error"}}\n\n'
    taken, error = relayed(raw(streamed(event("one"), told, event("two"))).base_url, asked(CHAT))
    assert taken.text.encode() == event("one")
    assert error.message == "it broke"


@pytest.mark.parametrize("whole", [True, False])
def test_a_stream_that_breaks_off_is_billed(raw: Any, whole: bool) -> None:
    taken, error = relayed(raw(streamed(event("one"), whole=whole)).base_url, asked(CHAT))
    assert taken.text.encode() == event("one")
    assert isinstance(error, ProviderError)
    assert error.billed
    assert error.usage is None


def test_a_key_is_removed_from_a_stream(raw: Any) -> None:
    stream = streamed(event(f"your key is {KEY}"), WHOLE)
    taken, _ = relayed(raw(stream).base_url, asked(CHAT))
    assert KEY not in taken.text
    assert "your key is [key]" in taken.text


def test_a_refusal_instead_of_a_stream_is_classified(simulator: Simulator) -> None:
    simulator.configure(failures=[{"mode": "429"}])
    taken, error = relayed(simulator.base_url, asked(CHAT))
    assert error.status == 429
    assert not taken.writes
