"""Streamed answers, put together: every wire format, every kind of line end."""

from typing import Any

import orjson
import pytest

from workers.providers import sse


def chunks(*found: Any) -> str:
    return "".join(f"data: {each if isinstance(each, str) else orjson.dumps(each).decode()}\n\n" for each in found)


DELTA = {"choices": [{"index": 0, "delta": {"content": "a\u2028b"}, "finish_reason": None}]}
END = {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}
USAGE = {"choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": 2}}


def test_a_chat_stream_is_complete_when_each_choice_ends() -> None:
    whole = sse.assembled("/v1/chat/completions", chunks(DELTA, END, USAGE, "[DONE]"))
    assert whole is not None
    assert whole["usage"]["prompt_tokens"] == 3
    assert sse.assembled("/v1/chat/completions", chunks(DELTA)) is None
    assert sse.assembled("/v1/chat/completions", "") is None
    failed = sse.assembled("/v1/chat/completions", chunks(DELTA, {"error": {"message": "no"}}))
    assert failed == {"error": {"message": "no"}}


def test_a_content_filter_after_the_stop_is_ignored() -> None:
    """Azure OpenAI sends one with its asynchronous content filter, in a streamed answer."""
    choice = {"index": 0, "finish_reason": None, "content_filter_results": {}, "content_filter_offsets": {"a": 9}}
    late = {"id": "", "object": "", "choices": [choice]}
    whole = sse.assembled("/v1/chat/completions", chunks(DELTA, END, late, USAGE, "[DONE]"))
    assert whole is not None
    assert whole["choices"][0]["finish_reason"] == "stop"
    assert sse.assembled("/v1/chat/completions", chunks(DELTA, late, "[DONE]")) is None


def test_usage_that_was_not_requested_is_removed() -> None:
    stream = chunks(DELTA, END, USAGE, "[DONE]")
    assert sse.without_usage(stream) == chunks(DELTA, END, "[DONE]")
    body = sse.with_usage("/v1/chat/completions", {"stream": True})
    assert sse.wants_usage(body)
    assert sse.with_usage("/v1/responses", {"stream": True}) == {"stream": True}


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_line_ends_of_every_kind(end: str) -> None:
    stream = chunks(DELTA, END, USAGE).replace("\n", end)
    whole = sse.assembled("/v1/chat/completions", stream)
    assert whole is not None
    assert whole["usage"] == USAGE["usage"]


def test_streams_of_responses_and_messages() -> None:
    body = {"output": [], "status": "completed", "usage": {"input_tokens": 1, "output_tokens": 2}}
    stream = chunks({"type": "response.created", "response": {}}, {"type": "response.completed", "response": body})
    assert sse.assembled("/v1/responses", stream) == body
    assert sse.assembled("/v1/responses", chunks({"type": "response.created", "response": {}})) is None
    start = {"type": "message_start", "message": {"usage": {"input_tokens": 5, "output_tokens": 1}}}
    delta = {"type": "message_delta", "delta": {}, "usage": {"output_tokens": 9}}
    whole = sse.assembled("/v1/messages", chunks(start, delta, {"type": "message_stop"}))
    assert whole == {"type": "message", "content": [], "usage": {"input_tokens": 5, "output_tokens": 9}}
    assert sse.assembled("/v1/messages", chunks(start, delta)) is None
    overloaded = {"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}
    assert sse.assembled("/v1/messages", chunks(start, overloaded)) == {"error": overloaded["error"]}
