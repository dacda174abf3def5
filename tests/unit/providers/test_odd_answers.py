"""Answers with status 200 as they come in the wild: what is an answer is read, what is none is named."""

import asyncio
import json
import socket
import threading
from typing import Any

import pytest

from limits.client.compact_json import dumps
from limits.counting import Usage
from tests.support.raw_provider import CLOSED, Call, RawProvider, answered, completion
from tests.unit.providers.conftest import KEY, call, chat, with_provider
from workers.providers import AccountBlocked, CallFailed, Interrupted, Provider, ProviderError, Refused, Throttled
from workers.providers.anthropic import Anthropic
from workers.providers.bodies import CHAT, MESSAGES, RESPONSES
from workers.providers.decoding import decode
from workers.providers.errors import Broken, TooLarge, Unavailable
from workers.providers.failures import classify
from workers.providers.openai import is_answer, usage_of
from workers.providers.sse import assembled
from workers.providers.truncation import met_ceiling

LOCKED = "Your portal is locked. Please try again in 24 hours."


def events(*data: Any, end: str = "\n\n") -> bytes:
    """A stream of events."""
    texts = [each if isinstance(each, str) else json.dumps(each) for each in data]
    return "".join(f"data: {text}{end}" for text in texts).encode()


def delta(reason: str | None = None, **fields: Any) -> dict[str, Any]:
    return {"id": "c", "model": "m", "choices": [{"index": 0, "delta": fields, "finish_reason": reason}]}


USAGE = {"prompt_tokens": 10, "completion_tokens": 5}
WHOLE = json.dumps(completion(LOCKED)).encode()

STREAMS: list[tuple[str, bytes, str]] = [
    ("one event", events(delta("stop", content=LOCKED), "[DONE]"), LOCKED),
    ("no empty lines between events", events(delta("stop", content=LOCKED), "[DONE]", end="\n"), LOCKED),
    ("a whole completion as the event", events(completion(LOCKED), "[DONE]"), LOCKED),
    ("JSON, then the end of a stream", WHOLE + b"\ndata: [DONE]\n", LOCKED),
    ("JSON, then two of them", WHOLE + b"\r\n\r\ndata: [DONE]\r\n\r\ndata: [DONE]\r\n\r\n", LOCKED),
    # OpenRouter's keep-alives (https://openrouter.ai/docs/api/reference/streaming).
    (
        "comments before the events",
        b": OPENROUTER PROCESSING\n\n: OPENROUTER PROCESSING\n\n" + events(delta("stop", content=LOCKED)),
        LOCKED,
    ),
    # DeepSeek's keep-alives of calls without a stream are empty lines (https://api-docs.deepseek.com).
    ("empty lines before JSON", b"\n\n\n" + WHOLE, LOCKED),
    (
        "many events, a role, and a usage",
        events(
            delta(role="assistant", content=""),
            delta(content="Your portal "),
            delta(content="is locked. "),
            delta(content="Please try again in 24 hours."),
            delta("stop"),
            {"choices": [], "usage": USAGE},
            "[DONE]",
        ),
        LOCKED,
    ),
    ("half a pair in each of two events", events(delta(content="a\ud83d"), delta("stop", content="\ude00b")), "a😀b"),
    ("half a pair and nothing more", events(delta("stop", content="fine \ud83d")), "fine \ufffd"),
]

TEXTS: list[tuple[str, bytes, str]] = [
    ("half a pair", rb'"fine \ud83d"', "fine \ufffd"),
    ("the other half", rb'"fine \uDE00 "', "fine \ufffd "),
    ("a pair", rb'"fine \ud83d\ude00"', "fine 😀"),
    ("two first halves", rb'"\ud83d\ud83d\ude00"', "\ufffd😀"),
    ("a backslash and a word beside half a pair", rb'"\\ud83d \ud83d"', "\\ud83d \ufffd"),
    ("bytes that are no UTF-8", b'"caf\xe9"', "caf\ufffd"),
    ("half a character", b'"caf\xc3"', "caf\ufffd"),
    ("a line break in a string", b'"two\nlines"', "two\nlines"),
]


@pytest.mark.parametrize(("what", "body", "text"), STREAMS, ids=[row[0] for row in STREAMS])
def test_a_stream_nobody_asked_for_is_the_answer(what: str, body: bytes, text: str) -> None:
    decoded = decode(body)
    whole = decoded if isinstance(decoded, dict) else assembled(CHAT, body.decode())
    assert whole is not None, what
    assert is_answer(CHAT, whole)
    assert whole["choices"][0]["message"]["content"] == text
    assert whole["choices"][0]["finish_reason"] == "stop"


@pytest.mark.parametrize(("what", "quoted", "text"), TEXTS, ids=[row[0] for row in TEXTS])
def test_what_is_not_quite_json_is_read(what: str, quoted: bytes, text: str) -> None:
    body = b'{"choices":[{"message":{"content":%s},"finish_reason":"stop"}]}' % quoted
    for raw in (body, b"\xef\xbb\xbf" + body):
        decoded = decode(raw)
        assert decoded["choices"][0]["message"]["content"] == text, what
        dumps(decoded)  # and can be written down


def test_other_encodings_and_numbers_that_are_none() -> None:
    assert decode('{"content": "ä"}'.encode("utf-16")) == {"content": "ä"}
    assert decode(b'{"logprob": -Infinity, "score": NaN}') == {"logprob": None, "score": None}
    assert isinstance(decode(b'{"a": 1} and more'), str)
    assert isinstance(decode(b'{"a": "\\ud83d' + b"[" * 100_000), str)


def test_the_whole_of_a_stream_is_put_together() -> None:
    call = {"index": 0, "id": "call_1", "type": "function", "function": {"name": "look", "arguments": ""}}
    stream = events(
        delta(role="assistant", reasoning_content="Hm"),
        delta(reasoning_content=", yes", tool_calls=[call]),
        delta(tool_calls=[{"index": 0, "function": {"arguments": '{"id":'}}]),
        delta(tool_calls=[{"index": 0, "function": {"arguments": "92055901755477000271990251}"}}]),
        delta(tool_calls=[{"index": 1, "id": "call_2", "function": {"name": "see", "arguments": "{}"}}]),
        delta("tool_calls"),
    ).decode()
    found = assembled(CHAT, stream)
    assert found is not None
    message = found["choices"][0]["message"]
    assert message["reasoning_content"] == "Hm, yes"
    assert [each["function"]["arguments"] for each in message["tool_calls"]] == [
        '{"id":92055901755477000271990251}',
        "{}",
    ]
    assert (found["object"], found["id"], message["role"]) == ("chat.completion", "c", "assistant")


def test_a_message_is_put_together() -> None:
    start = {"id": "m", "type": "message", "role": "assistant", "content": [], "usage": {"input_tokens": 3}}
    stream = events(
        {"type": "message_start", "message": start},
        {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "Hi"}},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": " you"}},
        {"type": "content_block_start", "index": 1, "content_block": {"type": "tool_use", "id": "t", "input": {}}},
        {"type": "content_block_delta", "index": 1, "delta": {"type": "input_json_delta", "partial_json": '{"a":'}},
        {"type": "content_block_delta", "index": 1, "delta": {"type": "input_json_delta", "partial_json": "2}"}},
        {"type": "message_delta", "delta": {"stop_reason": "tool_use"}, "usage": {"output_tokens": 9}},
        {"type": "message_stop"},
    ).decode()
    found = assembled(MESSAGES, stream)
    assert found is not None
    assert found["content"] == [{"type": "text", "text": "Hi you"}, {"type": "tool_use", "id": "t", "input": {"a": 2}}]
    assert (found["usage"], found["stop_reason"]) == ({"input_tokens": 3, "output_tokens": 9}, "tool_use")


HOSTILE = [[], {}, 7, "x", None, [[]], {"a": []}, True]


@pytest.mark.parametrize("value", HOSTILE, ids=repr)
@pytest.mark.parametrize("url", [CHAT, RESPONSES, MESSAGES])
def test_events_of_wrong_types_raise_nothing(url: str, value: Any) -> None:
    fields = ("index", "delta", "message", "tool_calls", "function", "logprobs", "finish_reason", "content", "usage")
    for field in fields:
        for wrong in (
            {"choices": [{"index": 0, field: value}]},
            {"choices": [{"delta": {field: value}}]},
            {"choices": [{"delta": {"tool_calls": [{field: value, "function": value}]}}]},
            {"type": "message_start", "message": value},
            {"type": "content_block_start", "index": value, "content_block": value},
            {"type": "content_block_delta", "index": value, "delta": {field: value, "citation": value}},
            {"type": "response.completed", "response": value},
        ):
            stream = events(wrong, {"choices": [{"delta": {"content": "x"}, "finish_reason": "stop"}]}, wrong)
            assembled(url, (stream + events({"type": "message_stop"})).decode())


NO_CHOICES = {"object": "chat.completion", "choices": None}
READ = {"prompt_tokens": 1396, "completion_tokens": 0, "total_tokens": 1396}


def minimax(code: int, words: str) -> dict[str, Any]:
    return {"id": "x", "choices": None, "base_resp": {"status_code": code, "status_msg": words}}


def ended(reason: str) -> dict[str, Any]:
    return {"choices": [{"index": 0, "message": {"content": "Once"}, "finish_reason": reason}], "usage": USAGE}


NONE: list[tuple[str, dict[str, Any], type[ProviderError], str, str]] = [
    ("no choices, a usage", {**NO_CHOICES, "usage": READ}, Refused, "content_filter", "withheld"),
    ("an empty list of choices", {"choices": [], "usage": READ}, Refused, "content_filter", "withheld"),
    ("no word of output", {"choices": None, "usage": {"prompt_tokens": 9}}, Refused, "content_filter", "withheld"),
    ("no choices, no usage", NO_CHOICES, Broken, "broken_body", "without saying why"),
    ("no choices, but output", {"choices": [], "usage": USAGE}, Broken, "broken_body", "without saying why"),
    ("minimax 1002", minimax(1002, "rate limit"), Throttled, "base_resp_1002", "rate limit"),
    ("minimax 1039", minimax(1039, "token limit"), Throttled, "base_resp_1039", "token limit"),
    ("minimax 1004", minimax(1004, "not authorized"), AccountBlocked, "base_resp_1004", "not authorized"),
    ("minimax 1008", minimax(1008, "insufficient balance"), AccountBlocked, "base_resp_1008", "insufficient balance"),
    ("minimax 1027", minimax(1027, "output sensitive"), Refused, "base_resp_1027", "output sensitive"),
    ("minimax 1024", minimax(1024, "internal error"), CallFailed, "base_resp_1024", "internal error"),
    ("baidu 18", {"error_code": 18, "error_msg": "qps limit"}, Throttled, "error_code_18", "qps limit"),
    ("baidu 110", {"error_code": 110, "error_msg": "token invalid"}, AccountBlocked, "error_code_110", "token invalid"),
    ("baidu 336100", {"error_code": 336100, "error_msg": "try again"}, Unavailable, "error_code_336100", "try again"),
    (
        "cloudflare",
        {"success": False, "errors": [{"code": 3040, "message": "Out of capacity"}], "result": None},
        Unavailable,
        "errors_3040",
        "Out of capacity",
    ),
    ("vllm shuts down", ended("abort"), CallFailed, "abort", "broke the answer off"),
    (
        "deepseek is out of machines",
        ended("insufficient_system_resource"),
        CallFailed,
        "insufficient_system_resource",
        "",
    ),
    ("mistral and openrouter", ended("error"), CallFailed, "error", "broke the answer off"),
]


@pytest.mark.parametrize(("what", "body", "kind", "code", "words"), NONE, ids=[row[0] for row in NONE])
def test_what_is_no_answer_is_named(
    what: str, body: dict[str, Any], kind: type[ProviderError], code: str, words: str
) -> None:
    assert not is_answer(CHAT, body)
    error = classify(200, {}, body, provider="acme", key=KEY, now=1e9)
    assert (type(error), error.code) == (kind, code), what
    assert words in error.message


def test_an_envelope_that_says_that_all_is_well_is_none() -> None:
    good = {**completion("Hi"), "base_resp": {"status_code": 0, "status_msg": "success"}, "error_code": 0}
    assert is_answer(CHAT, good)


def told(prompt: int, made: int, total: int, **more: Any) -> dict[str, Any]:
    return {"prompt_tokens": prompt, "completion_tokens": made, "total_tokens": total, **more}


def cached(tokens: int) -> dict[str, Any]:
    return {"prompt_tokens_details": {"cached_tokens": tokens}}


@pytest.mark.parametrize(
    ("usage", "expected"),
    [
        # Cached tokens in the total alone.
        (
            told(100, 50, 10050, **cached(9900)),
            Usage(input=10000, cached=9900, output=50),
        ),
        (
            told(500, 50, 850, **cached(300)),
            Usage(input=800, cached=300, output=50),
        ),
        # And thoughts beside them.
        (
            told(100, 50, 10350, **cached(9900)),
            Usage(input=10000, cached=9900, output=350),
        ),
        # Thoughts in the total alone, with cached tokens in the prompt: xAI's and Gemini's way.
        (
            told(100, 50, 400, **cached(60)),
            Usage(input=100, cached=60, output=300),
        ),
        (
            told(100, 5, 145, prompt_cache_hit_tokens=64),
            Usage(input=100, cached=64, output=45),
        ),
    ],
)  # fmt: skip
def test_cached_tokens_in_the_total_are_no_output(usage: dict[str, Any], expected: Usage) -> None:
    assert usage_of(CHAT, {"usage": usage}) == expected


def test_cached_tokens_in_the_total_of_a_response() -> None:
    details = {"cached_tokens": 9900}
    usage = {"input_tokens": 100, "output_tokens": 50, "total_tokens": 10050, "input_tokens_details": details}
    assert usage_of(RESPONSES, {"usage": usage}) == Usage(input=10000, cached=9900, output=50)


COMPACTED = {"type": "compaction", "input_tokens": 180_000, "output_tokens": 3_500}
WRITTEN = {"type": "message", "input_tokens": 23_000, "output_tokens": 1_000}
CACHED = {"type": "message", "input_tokens": 10, "cache_read_input_tokens": 200, "output_tokens": 7}


@pytest.mark.parametrize(
    ("iterations", "expected"),
    [
        ([COMPACTED, WRITTEN], Usage(input=203_000, output=4_500)),
        ([COMPACTED, COMPACTED, WRITTEN], Usage(input=383_000, output=8_000)),
        ([COMPACTED, CACHED], Usage(input=180_210, cached=200, output=3_507)),
        # Never less than the total.
        ([{"type": "message", "input_tokens": 5, "output_tokens": 1}], Usage(input=23_000, output=1_000)),
        ("none", Usage(input=23_000, output=1_000)),
        ([7, None], Usage(input=23_000, output=1_000)),
    ],
)
def test_the_iterations_of_a_compaction_are_summed(iterations: Any, expected: Usage) -> None:
    body = {"usage": {"input_tokens": 23_000, "output_tokens": 1_000, "iterations": iterations}}
    assert Anthropic("a", "https://x", 1.0)._usage(MESSAGES, body) == expected


@pytest.mark.parametrize(
    ("url", "body", "met"),
    [
        (CHAT, ended("length"), True),
        (CHAT, ended("model_length"), True),  # Mistral: the context's end
        (CHAT, ended("stop"), False),
        (CHAT, {"choices": [ended("stop")["choices"][0], ended("length")["choices"][0]]}, True),
        (CHAT, {"choices": [{"finish_reason": ["length"]}, 7]}, False),
        (MESSAGES, {"stop_reason": "max_tokens"}, True),
        (MESSAGES, {"stop_reason": "model_context_window_exceeded"}, True),
        (MESSAGES, {"stop_reason": "end_turn"}, False),
        (RESPONSES, {"status": "incomplete", "incomplete_details": {"reason": "max_output_tokens"}}, True),
        (RESPONSES, {"status": "incomplete", "incomplete_details": {"reason": "content_filter"}}, False),
        (RESPONSES, {"status": "incomplete", "incomplete_details": None}, False),
        (RESPONSES, {"status": "completed"}, False),
    ],
)
def test_an_answer_that_met_its_ceiling_is_known(url: str, body: dict[str, Any], met: bool) -> None:
    assert met_ceiling(url, body) is met


LEAKS = [KEY, f"invalid_key:{KEY}", KEY[:12] + "...", "bad prompt: Mr X", "PRIVATE_diagnosis", "x" * 41, "a/b", ""]


@pytest.mark.parametrize("word", LEAKS)
@pytest.mark.parametrize("field", ["code", "type", "status"])
@pytest.mark.parametrize("status", [200, 400, 401, 429, 500, 503])
def test_a_code_that_may_be_anything_is_not_shown(status: int, field: str, word: str) -> None:
    error = classify(status, {}, {"error": {field: word, "message": "m"}}, provider="acme", key=KEY, now=1e9)
    assert error.code in {f"http_{status}", "broken_body"}
    assert word == "" or word not in f"{error} {error!r} {error.advice}"


@pytest.mark.parametrize("word", ["insufficient_quota", "rate_limit_error", "engine.overloaded", "invalid-key"])
def test_a_code_that_is_one_is_shown(word: str) -> None:
    assert classify(500, {}, {"error": {"code": word}}, provider="acme", key=KEY, now=1e9).code == word


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
def test_long_and_many_headers_are_read(raw: RawProvider, text: str) -> None:
    assert call(raw.base_url, chat(text)).body == GOOD


@pytest.mark.parametrize(
    ("text", "words"),
    [("both lengths", "both a Content-Length and a Transfer-Encoding"), ("two lengths", "Content-Length")],
)
def test_what_is_wrong_with_the_http_is_named(raw: RawProvider, text: str, words: str) -> None:
    with pytest.raises(Broken, match="broken_answer") as raised:
        call(raw.base_url, chat(text))
    assert words in raised.value.message


def test_a_request_that_met_the_end_of_an_idle_connection_is_not_paid(raw: RawProvider) -> None:
    async def twice(provider: Provider) -> None:
        await provider.call(CHAT, chat("the end of an idle connection"), model="m", key=KEY)
        with pytest.raises(Interrupted) as raised:
            await provider.call(CHAT, chat("the end of an idle connection"), model="m", key=KEY)
        assert not raised.value.billed

    with_provider(raw.base_url, twice)


def test_half_an_answer_on_a_connection_that_was_idle_may_be_paid(raw: RawProvider) -> None:
    async def twice(provider: Provider) -> None:
        await provider.call(CHAT, chat("half an answer on an idle connection"), model="m", key=KEY)
        with pytest.raises(CallFailed) as raised:
            await provider.call(CHAT, chat("half an answer on an idle connection"), model="m", key=KEY, timeout=1.0)
        assert raised.value.billed

    with_provider(raw.base_url, twice)


def test_a_key_that_is_repeated_in_an_answer_is_taken_out(raw: RawProvider) -> None:
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
def test_no_connection_is_kept_idle_for_as_long_as_servers_keep_it(raw: RawProvider) -> None:
    """Node's and uvicorn's servers close after 5 s."""

    async def twice(provider: Provider) -> None:
        await provider.call(CHAT, chat("first"), model="m", key=KEY)
        await asyncio.sleep(5.1)
        await provider.call(CHAT, chat("second"), model="m", key=KEY)

    with_provider(raw.base_url, twice)
    assert raw.seen["second"].on_connection == 1
