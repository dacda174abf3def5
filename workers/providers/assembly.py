"""Assembles a stream's events into the answer that the same call brings without streaming.

Events are untrusted input: what has the wrong type is left out.
"""

from collections.abc import Iterable
from typing import Any, Final

import orjson

#: A decoded event of a stream.
Event = dict[str, Any]

#: Fields of a delta that are repeated in each event. Other fields are continued.
_SAID_ONCE: Final = frozenset({"role", "id", "type", "name", "index"})


def completion(events: Iterable[Event]) -> dict[str, Any] | None:
    """A chat completion, None if it broke off."""
    head: dict[str, Any] = {}
    choices: dict[int, _Parts] = {}
    usage: Any = None
    for event in events:
        usage = event.get("usage") or usage
        for name, value in event.items():
            if value is not None and name not in {"choices", "usage", "object"}:
                head.setdefault(name, value)
        for choice in dicts(event.get("choices")):
            index = _index(choice)
            made = _Parts(index=index, message=_Parts(role="assistant"))
            _add_choice(choices.setdefault(index, made), choice)
    if not choices or not all(choice.get("finish_reason") for choice in choices.values()):
        return None
    for choice in choices.values():
        choice["message"].setdefault("content", None)
    return {**head, "object": "chat.completion", "choices": [_whole(each) for each in choices.values()], "usage": usage}


def _add_choice(into: dict[str, Any], choice: Event) -> None:
    message = into["message"]
    for name, value in choice.items():
        if value is None or name == "index":
            continue
        if name == "message" and isinstance(value, dict):
            message.update(value)
        elif name == "delta" and isinstance(value, dict):
            _add_delta(message, value)
        elif name == "logprobs" and isinstance(value, dict):
            _join(into.setdefault("logprobs", _Parts()), value)
        elif name not in {"message", "delta", "logprobs"}:
            into[name] = value


def _add_delta(message: dict[str, Any], delta: Event) -> None:
    for call in dicts(delta.get("tool_calls")):
        calls = message.setdefault("tool_calls", _Calls())
        if not isinstance(calls, _Calls):
            return  # a complete message has already come
        index = call.get("index")
        found = next((each for each in calls if index is not None and each["index"] == index), None)
        if found is None:
            found = _Parts(index=index)
            calls.append(found)
        called = call.get("function")
        _join(found, {name: value for name, value in call.items() if name != "function"})
        if isinstance(called, dict):
            _join(found.setdefault("function", _Parts()), called)
    _join(message, {name: value for name, value in delta.items() if name != "tool_calls"})


def _join(into: dict[str, Any], part: Event) -> None:
    """Add a part: strings and lists grow, of all else the last value counts."""
    for name, value in part.items():
        if value is None and name in into:
            continue
        before = into.get(name)
        if isinstance(value, str) and name not in _SAID_ONCE:
            if isinstance(before, _Text):
                before.append(value)
            else:
                into[name] = _Text([value])
        elif isinstance(value, list) and isinstance(before, _List):
            before.extend(value)
        else:
            into[name] = _List(value) if isinstance(value, list) else value


class _Text(list[str]):
    """A string in pieces: joining at every piece would take quadratic time."""


class _List(list[Any]):
    """A growing list."""


class _Calls(list["_Parts"]):
    """A message's tool calls."""


class _Parts(dict[str, Any]):
    """A growing object."""


def _whole(value: Any) -> Any:
    """The JSON of what has grown. Values that came complete are returned as they are."""
    match value:
        case _Text():
            text = "".join(value)
            # The halves of a surrogate pair may have come in two pieces.
            return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace") if not text.isascii() else text
        case _List():
            return list(value)
        case _Calls():
            return [_whole(each) for each in value]
        case _Parts():
            return {name: _whole(each) for name, each in value.items()}
    return value


def response(events: Iterable[Event]) -> dict[str, Any] | None:
    """An answer of /v1/responses, None if it broke off."""
    for event in reversed(list(events)):
        if event.get("type") in {"response.completed", "response.incomplete", "response.failed"}:
            found = event.get("response")
            return found if isinstance(found, dict) else None
    return None


def message(events: Iterable[Event]) -> dict[str, Any] | None:
    """An answer of /v1/messages, None if it broke off."""
    made: dict[str, Any] = {"type": "message"}
    blocks: dict[int, _Parts] = {}
    usage: dict[str, Any] = {}
    ended = False
    for event in events:
        kind = event.get("type")
        source = event.get("message") if kind == "message_start" else event
        if isinstance(source, dict) and isinstance(source.get("usage"), dict):
            usage |= {name: value for name, value in source["usage"].items() if value is not None}
        if kind == "message_start" and isinstance(source, dict):
            made |= source
        elif kind == "content_block_start" and isinstance(event.get("content_block"), dict):
            blocks[_index(event)] = _begun(event["content_block"])
        elif kind == "content_block_delta" and isinstance(event.get("delta"), dict):
            _add_block(blocks.setdefault(_index(event), _Parts()), event["delta"])
        elif kind == "message_delta" and isinstance(event.get("delta"), dict):
            made |= event["delta"]
        ended = ended or kind == "message_stop"
    if not ended:
        return None
    return {**made, "content": [_whole_block(blocks[index]) for index in sorted(blocks)], "usage": usage}


def _begun(block: Event) -> _Parts:
    """A block at its start, ready to grow."""
    begun = _Parts()
    _join(begun, block)
    return begun


def _add_block(block: _Parts, delta: Event) -> None:
    for name, value in delta.items():
        if name == "citation":
            _join(block, {"citations": [value]})
        elif name != "type":
            _join(block, {name: value})


def _whole_block(parts: _Parts) -> dict[str, Any]:
    """A finished block. A tool's input came as pieces of JSON text."""
    block: dict[str, Any] = _whole(parts)
    text = block.pop("partial_json", None)
    if isinstance(text, str) and text:
        try:
            block["input"] = orjson.loads(text)
        except orjson.JSONDecodeError:
            block["input"] = text
    return block


def _index(part: Event) -> int:
    index = part.get("index")
    return index if type(index) is int else 0


def dicts(value: Any) -> list[dict[str, Any]]:
    """The objects in a list; empty if it isn't a list."""
    return [each for each in value if isinstance(each, dict)] if isinstance(value, list) else []
