"""HTTP as servers and proxies really speak it: long headers, broken framing, idle connections, early answers."""

import asyncio
import socket
import threading
from typing import Any

import pytest

from tests.support.raw_provider import CLOSED, Call, RawProvider, answered, completion
from tests.unit.providers.conftest import KEY, call, chat, with_provider
from workers.providers import CallFailed, Interrupted, Provider
from workers.providers.bodies import CHAT
from workers.providers.errors import Broken, TooLarge

# HTTP

GOOD = completion("Hi")


def http(call: Call) -> bytes:
    """What the prompt names."""
    match call.text:
        case "a header of 9,000 bytes":
            return answered(GOOD, x_policy="p" * 9_000)
        case "a header of 60,000 bytes":
            return answered(GOOD, x_policy="p" * 60_000)
        case "130 headers" | "1,000 headers" as text:
            return answered(GOOD, **{f"x_{number}": "v" for number in range(int(text.split()[0].replace(",", "")))})
        case "both lengths":
            return answered(GOOD, transfer_encoding="chunked")
        case "two lengths":
            return answered(GOOD, content_length="3")
        case "the end of an idle connection" if call.on_connection > 1:
            return CLOSED
        case "half an answer on an idle connection" if call.on_connection > 1:
            return b"HTTP/1.1 200 OK\r\n\r\n"[: -2 - call.count]
        case "the key":
            return answered(completion(f"You sent {KEY}"), x_request_id=f"req-{KEY}")
    return answered(GOOD)


@pytest.fixture(scope="module")
def raw() -> Any:
    with RawProvider(http) as provider:
        yield provider


LONG_HEADERS = ["a header of 9,000 bytes", "a header of 60,000 bytes", "130 headers", "1,000 headers"]


@pytest.mark.parametrize("text", LONG_HEADERS)
def test_long_headers_and_many_headers_are_read(raw: RawProvider, text: str) -> None:
    assert call(raw.base_url, chat(text)).body == GOOD


@pytest.mark.parametrize(
    ("text", "words"),
    [("both lengths", "both a Content-Length and a Transfer-Encoding"), ("two lengths", "Content-Length")],
)
def test_broken_http_is_described(raw: RawProvider, text: str, words: str) -> None:
    with pytest.raises(Broken, match="broken_answer") as raised:
        call(raw.base_url, chat(text))
    assert words in raised.value.message


def test_a_request_on_a_closed_idle_connection_is_not_billed(raw: RawProvider) -> None:
    async def twice(provider: Provider) -> None:
        await provider.call(CHAT, chat("the end of an idle connection"), model="m", key=KEY)
        with pytest.raises(Interrupted) as raised:
            await provider.call(CHAT, chat("the end of an idle connection"), model="m", key=KEY)
        assert not raised.value.billed

    with_provider(raw.base_url, twice)


def test_half_an_answer_on_a_reused_connection_may_be_billed(raw: RawProvider) -> None:
    async def twice(provider: Provider) -> None:
        await provider.call(CHAT, chat("half an answer on an idle connection"), model="m", key=KEY)
        with pytest.raises(CallFailed) as raised:
            await provider.call(CHAT, chat("half an answer on an idle connection"), model="m", key=KEY, timeout=1.0)
        assert raised.value.billed

    with_provider(raw.base_url, twice)


def test_a_key_in_an_answer_is_removed(raw: RawProvider) -> None:
    answer = call(raw.base_url, chat("the key"))
    assert answer.body["choices"][0]["message"]["content"] == "You sent [key]"
    assert answer.request_id is None


@pytest.mark.filterwarnings("ignore:Sending a large body:ResourceWarning")
def test_413_before_the_body_is_read() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:

        def refuse() -> None:
            connection, _ = server.accept()
            with connection:
                connection.recv(1000)
                connection.sendall(answered(b"", status=413, connection="close"))

        thread = threading.Thread(target=refuse, daemon=True)
        thread.start()
        with pytest.raises(TooLarge) as raised:
            call(f"http://127.0.0.1:{server.getsockname()[1]}", chat("x" * 12_000_000))
        thread.join(10)
        assert not raised.value.billed


@pytest.mark.long
def test_idle_connections_close_before_the_server_closes_them(raw: RawProvider) -> None:
    """Node's and uvicorn's servers close after 5 s."""

    async def twice(provider: Provider) -> None:
        await provider.call(CHAT, chat("first"), model="m", key=KEY)
        await asyncio.sleep(5.1)
        await provider.call(CHAT, chat("second"), model="m", key=KEY)

    with_provider(raw.base_url, twice)
    assert raw.seen["second"].on_connection == 1
