"""Answers with status 200 as they come in the wild: odd but valid ones are read, errors in them are named."""

import json
from typing import Any

import pytest

from limits.client.compact_json import dumps
from tests.support.raw_provider import completion
from tests.unit.providers.conftest import KEY
from workers.providers import AccountBlocked, CallFailed, ProviderError, Refused, Throttled
from workers.providers.bodies import CHAT, MESSAGES, RESPONSES
from workers.providers.decoding import decode
from workers.providers.errors import Broken, Unavailable
from workers.providers.failures import classify
from workers.providers.openai import is_answer
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
def test_an_unrequested_stream_is_read_as_the_answer(what: str, body: bytes, text: str) -> None:
    decoded = decode(body)
    whole = decoded if isinstance(decoded, dict) else assembled(CHAT, body.decode())
    assert whole is not None, what
    assert is_answer(CHAT, whole)
    assert whole["choices"][0]["message"]["content"] == text
    assert whole["choices"][0]["finish_reason"] == "stop"


@pytest.mark.parametrize(("what", "quoted", "text"), TEXTS, ids=[row[0] for row in TEXTS])
def test_almost_valid_json_is_read(what: str, quoted: bytes, text: str) -> None:
    body = b'{"choices":[{"message":{"content":%s},"finish_reason":"stop"}]}' % quoted
    for content in (body, b"\xef\xbb\xbf" + body):
        decoded = decode(content)
        assert decoded["choices"][0]["message"]["content"] == text, what
        dumps(decoded)  # and can be written down


def test_other_encodings_and_nan_are_read() -> None:
    assert decode('{"content": "ä"}'.encode("utf-16")) == {"content": "ä"}
    assert decode(b'{"logprob": -Infinity, "score": NaN}') == {"logprob": None, "score": None}
    assert isinstance(decode(b'{"a": 1} and more'), str)
    assert isinstance(decode(b'{"a": "\\ud83d' + b"[" * 100_000), str)


def test_a_completions_stream_is_assembled() -> None:
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


def test_a_messages_stream_is_assembled() -> None:
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
def test_an_error_with_status_200_is_recognized(
    what: str, body: dict[str, Any], kind: type[ProviderError], code: str, words: str
) -> None:
    assert not is_answer(CHAT, body)
    error = classify(200, {}, body, provider="acme", key=KEY, now=1e9)
    assert (type(error), error.code) == (kind, code), what
    assert words in error.message


def test_an_envelope_that_reports_success_is_no_error() -> None:
    good = {**completion("Hi"), "base_resp": {"status_code": 0, "status_msg": "success"}, "error_code": 0}
    assert is_answer(CHAT, good)


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
def test_a_truncated_answer_is_recognized(url: str, body: dict[str, Any], met: bool) -> None:
    assert met_ceiling(url, body) is met
