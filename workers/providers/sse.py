"""Streamed answers: server-sent events, read to the end and assembled.

Like any answer, a job's stream is read completely: only then is it known what it cost and whether it is an answer. Its
reader gets the events as they came. relay.py passes events on before that, to someone who waits for them.

The format is WHATWG's (https://html.spec.whatwg.org/multipage/server-sent-events.html#parsing-an-event-stream):
one field a line, and empty lines between events.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

import orjson

from limits.client import compact_json
from workers.providers import assembly
from workers.providers.endpoints import CHAT, MESSAGES, RESPONSES

#: The content type of a stream.
EVENT_STREAM: Final = "text/event-stream"

#: The last event of OpenAI's streams.
_DONE: Final = "[DONE]"

#: How a stream begins.
_FIRST: Final = re.compile(r"\s*(?:data|event|id|retry)?:")

# str.splitlines would also break at U+2028 and others, which JSON strings may contain.
_LINES: Final = re.compile(r"[^\r\n]*(?:\r\n|\n|\r)|[^\r\n]+")


def asks_for_stream(body: Mapping[str, Any]) -> bool:
    """Whether a body asks for its answer as events."""
    return body.get("stream") is True


def with_usage(url: str, body: dict[str, Any]) -> dict[str, Any]:
    """The body with a request for the stream's usage, which chat completions report only if asked."""
    if url != CHAT or wants_usage(body):
        return body
    options = body.get("stream_options")
    return {**body, "stream_options": {**(options if isinstance(options, dict) else {}), "include_usage": True}}


def wants_usage(body: Mapping[str, Any]) -> bool:
    """Whether the body asks for the stream's usage, so that its reader expects that event."""
    options = body.get("stream_options")
    return isinstance(options, dict) and options.get("include_usage") is True


def without_usage(stream: str) -> str:
    """The stream without the event that has only usage: a reader that did not ask for it may fail on it."""
    return "".join(block for block in _blocks(stream) if not _has_usage_alone(_data(block)))


def is_stream(text: str) -> bool:
    """Whether a text that isn't JSON is a stream of events."""
    return _FIRST.match(text) is not None


def assembled(url: str, stream: str) -> dict[str, Any] | None:
    """The answer in a stream, as the call would bring it without streaming, or its error. None if it broke off."""
    events = [event for block in _blocks(stream) for event in _events(block)]
    for event in events:
        if event.get("error") or event.get("type") == "error":
            return {"error": event.get("error") or event}
    match url:
        case _ if url == CHAT:
            return assembly.completion(events)
        case _ if url == RESPONSES:
            return assembly.response(events)
        case _ if url == MESSAGES:
            return assembly.message(events)
    return None


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


def _events(block: str) -> Iterator[dict[str, Any]]:
    """A block's event, or its lines' events if a server left out the empty lines between them."""
    data = _data(block)
    if (event := _event(data)) is not None:
        yield event
    elif "\n" in data:
        yield from (event for line in data.split("\n") if (event := _event(line)) is not None)


def _event(data: str) -> dict[str, Any] | None:
    if not data or data == _DONE:
        return None
    try:
        found = compact_json.loads(data.encode())
    except ValueError:
        try:
            # Half of a surrogate pair: the next event may hold the other half.
            found = compact_json.decoder().decode(data)
        except (ValueError, RecursionError):
            return None
    return found if isinstance(found, dict) else None


def _has_usage_alone(data: str) -> bool:
    event = _event(data)
    return event is not None and is_usage_alone(event)


def is_usage_alone(event: Mapping[str, Any]) -> bool:
    """Whether a chat's event has nothing but the usage."""
    return event.get("choices") == [] and bool(event.get("usage"))


def events(block: bytes) -> Iterator[dict[str, Any]]:
    """The events of one block of lines."""
    lines = [line[5:] for line in block.splitlines() if line.startswith(b"data:")]
    if len(lines) == 1:
        try:
            found = orjson.loads(lines[0])
        except orjson.JSONDecodeError:
            pass
        else:
            if isinstance(found, dict):
                yield found
            return
    yield from _events(block.decode("utf-8", "replace"))
