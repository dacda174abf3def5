"""Streamed answers: server-sent events, read to their end and put together again.

A stream is taken whole, like any answer: only then is it known what it has cost, and whether it is one. What its
reader gets are the events as they came.

The format is WHATWG's (https://html.spec.whatwg.org/multipage/server-sent-events.html#parsing-an-event-stream):
fields a line, events divided by empty lines.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

import orjson

from workers.providers.endpoints import CHAT, MESSAGES, RESPONSES

#: The content type of a stream.
EVENT_STREAM: Final = "text/event-stream"

_DONE: Final = "[DONE]"

# str.splitlines would also break at U+2028 and others, which may stand in a string of JSON.
_LINES: Final = re.compile(r"[^\r\n]*(?:\r\n|\n|\r)|[^\r\n]+")


def asks_for_stream(body: Mapping[str, Any]) -> bool:
    """Whether a body asks for its answer as events."""
    return body.get("stream") is True


def with_usage(url: str, body: dict[str, Any]) -> dict[str, Any]:
    """The body, asking for the stream's usage, which chat completions tell only then."""
    if url != CHAT or tells_usage(body):
        return body
    options = body.get("stream_options")
    return {**body, "stream_options": {**(options if isinstance(options, dict) else {}), "include_usage": True}}


def tells_usage(body: Mapping[str, Any]) -> bool:
    """Whether the reader of this stream asked for its usage, and expects the event that holds it."""
    options = body.get("stream_options")
    return isinstance(options, dict) and options.get("include_usage") is True


def without_usage(stream: str) -> str:
    """The stream without the event that holds nothing but usage: who did not ask for it may not bear it."""
    return "".join(block for block in _blocks(stream) if not _is_usage_alone(_data(block)))


def assembled(url: str, stream: str) -> dict[str, Any] | None:
    """The answer that a stream is, as far as an answer is looked at: its end, its usage, an error.

    None where it broke off.
    """
    events = [event for block in _blocks(stream) if (event := _event(_data(block))) is not None]
    for event in events:
        if event.get("error") or event.get("type") == "error":
            return {"error": event.get("error") or event}
    match url:
        case _ if url == CHAT:
            return _chat(events)
        case _ if url == RESPONSES:
            return _response(events)
        case _ if url == MESSAGES:
            return _message(events)
    return None


def _chat(events: list[dict[str, Any]]) -> dict[str, Any] | None:
    choices: dict[int, dict[str, Any]] = {}
    usage: Any = None
    for event in events:
        usage = event.get("usage") or usage
        for choice in _dicts(event.get("choices")):
            told = {name: value for name, value in choice.items() if value is not None}
            choices.setdefault(choice.get("index", 0), {}).update(told)  # Azure's filter may speak after the stop
    if not choices or not all(choice.get("finish_reason") for choice in choices.values()):
        return None
    return {"choices": list(choices.values()), "usage": usage}


def _response(events: list[dict[str, Any]]) -> dict[str, Any] | None:
    for event in reversed(events):
        if event.get("type") in {"response.completed", "response.incomplete", "response.failed"}:
            response = event.get("response")
            return response if isinstance(response, dict) else None
    return None


def _message(events: list[dict[str, Any]]) -> dict[str, Any] | None:
    usage: dict[str, Any] = {}
    for event in events:
        told = event.get("message") if event.get("type") == "message_start" else event
        if isinstance(told, dict) and isinstance(told.get("usage"), dict):
            usage |= {name: value for name, value in told["usage"].items() if value is not None}
    ended = any(event.get("type") == "message_stop" for event in events)
    return {"type": "message", "content": [], "usage": usage} if ended else None


def _dicts(value: Any) -> list[dict[str, Any]]:
    return [each for each in value if isinstance(each, dict)] if isinstance(value, list) else []


def _blocks(stream: str) -> Iterator[str]:
    """The events, each with the empty line that ends it."""
    block: list[str] = []
    for line in _LINES.findall(stream):
        block.append(line)
        if line in {"\n", "\r\n", "\r"}:
            yield "".join(block)
            block = []
    if block:
        yield "".join(block)


def _data(block: str) -> str:
    lines = (line.rstrip("\r\n") for line in _LINES.findall(block))
    values = [line[5:].removeprefix(" ") for line in lines if line.startswith("data:")]
    return "\n".join(values)


def _event(data: str) -> dict[str, Any] | None:
    if not data or data == _DONE:
        return None
    try:
        found = orjson.loads(data)
    except orjson.JSONDecodeError:
        return None
    return found if isinstance(found, dict) else None


def _is_usage_alone(data: str) -> bool:
    event = _event(data)
    return event is not None and event.get("choices") == [] and bool(event.get("usage"))
