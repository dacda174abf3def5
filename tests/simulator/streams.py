"""An answer as a stream of events, in each wire format: the same answer, in pieces of a word."""

from collections.abc import Iterator
from typing import Any

import orjson

HEADERS = {"content-type": "text/event-stream"}


def stream(task: str, body: dict[str, Any], answer: dict[str, Any]) -> bytes:
    """The events of an answer."""
    match task:
        case "chat":
            events = _chat(body, answer)
        case "responses":
            events = _response(answer)
        case _:
            events = _message(answer)
    return b"".join(events)


def _event(data: dict[str, Any], name: str = "") -> bytes:
    head = f"event: {name}\n".encode() if name else b""
    return head + b"data: " + orjson.dumps(data) + b"\n\n"


def _words(text: str) -> Iterator[str]:
    for number, word in enumerate(text.split(" ")):
        yield word if not number else f" {word}"


def _chat(body: dict[str, Any], answer: dict[str, Any]) -> Iterator[bytes]:
    told = {name: answer[name] for name in ("id", "created", "model")} | {"object": "chat.completion.chunk"}
    options = body.get("stream_options") or {}
    for choice in answer["choices"]:
        message = choice["message"]
        pieces: list[dict[str, Any]] = [{"role": "assistant", "content": ""}]
        pieces += [{"content": word} for word in _words(message["content"] or "")]
        pieces += [{"tool_calls": [{"index": i, **call}]} for i, call in enumerate(message.get("tool_calls", []))]
        for piece in pieces:
            yield _event({**told, "choices": [{"index": choice["index"], "delta": piece, "finish_reason": None}]})
        end = {"index": choice["index"], "delta": {}, "finish_reason": choice["finish_reason"]}
        yield _event({**told, "choices": [end]})
    if options.get("include_usage") and "usage" in answer:
        yield _event({**told, "choices": [], "usage": answer["usage"]})
    yield b"data: [DONE]\n\n"


def _response(answer: dict[str, Any]) -> Iterator[bytes]:
    events: list[dict[str, Any]] = [
        {"type": "response.created", "response": {**answer, "status": "in_progress", "output": [], "usage": None}}
    ]
    for index, item in enumerate(answer["output"]):
        place = {"output_index": index, "item_id": item["id"], "content_index": 0}
        part = item["content"][0]
        events.append({"type": "response.output_item.added", "output_index": index, "item": {**item, "content": []}})
        events.append({"type": "response.content_part.added", **place, "part": {**part, "text": ""}})
        events += [
            {"type": "response.output_text.delta", **place, "delta": word, "logprobs": []}
            for word in _words(part["text"])
        ]
        events.append({"type": "response.output_text.done", **place, "text": part["text"], "logprobs": []})
        events.append({"type": "response.content_part.done", **place, "part": part})
        events.append({"type": "response.output_item.done", "output_index": index, "item": item})
    events.append({"type": "response.completed", "response": answer})
    for number, event in enumerate(events):
        yield _event({**event, "sequence_number": number}, event["type"])


def _message(answer: dict[str, Any]) -> Iterator[bytes]:
    usage = answer["usage"]
    start = {**answer, "content": [], "stop_reason": None, "usage": {**usage, "output_tokens": 1}}
    events: list[dict[str, Any]] = [{"type": "message_start", "message": start}]
    for index, part in enumerate(answer["content"]):
        events.append({"type": "content_block_start", "index": index, "content_block": {**part, "text": ""}})
        events += [
            {"type": "content_block_delta", "index": index, "delta": {"type": "text_delta", "text": word}}
            for word in _words(part["text"])
        ]
        events.append({"type": "content_block_stop", "index": index})
    stop = {"stop_reason": answer["stop_reason"], "stop_sequence": None}
    events.append({"type": "message_delta", "delta": stop, "usage": {"output_tokens": usage["output_tokens"]}})
    events.append({"type": "message_stop"})
    for event in events:
        yield _event(event, event["type"])
