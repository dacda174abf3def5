"""Checks and reads a job's body before anything is sent: pure functions over the wire formats.

A job's `url` names the format of its `body`:

| url                    | served by                           | the ceiling of its output is in        |
|------------------------|-------------------------------------|----------------------------------------|
| `/v1/chat/completions` | OpenAI, Azure and compatible servers | `max_completion_tokens`, `max_tokens`  |
| `/v1/responses`        | OpenAI, Azure                       | `max_output_tokens`                    |
| `/v1/embeddings`       | OpenAI, Azure and compatible servers | (it has no output)                     |
| `/v1/messages`         | Anthropic                           | `max_tokens`                           |

`check_body` comes first. The other functions accept whatever it passes and never raise on the rest. Unknown fields are
left to the provider.
"""

import re
from collections.abc import Iterator, Mapping
from itertools import islice
from typing import Any, Final

from workers.providers.endpoints import (
    CHAT,
    EMBEDDINGS,
    ENDPOINTS,
    ENDPOINTS_BY_API,
    MESSAGES,
    RESPONSES,
)
from workers.providers.prompt import STORED_AT_THE_PROVIDER, Prompt, prompt

__all__ = [
    "CHAT",
    "EMBEDDINGS",
    "ENDPOINTS",
    "ENDPOINTS_BY_API",
    "MESSAGES",
    "RESPONSES",
    "Prompt",
    "check_body",
    "choices",
    "output_ceiling",
    "prompt",
    "with_output_ceiling",
]

# The highest `n` of a chat completion (OpenAI's API reference).
MAX_CHOICES: Final = 128

# The most inputs of an embeddings request (the same).
MAX_EMBEDDING_INPUTS: Final = 2048

# No model writes this much. A larger ceiling is a mistake and would hold an absurd amount of a budget. Tokens.
MAX_OUTPUT_TOKENS: Final = 10_000_000

# Problems of one body that are reported one by one.
MAX_PROBLEMS: Final = 5

# OpenAI's own chat models: reasoning ones refuse `max_tokens`, older ones take both. All other servers take
# `max_tokens`, and some (Mistral) refuse the newer name.
_TAKES_MAX_COMPLETION_TOKENS: Final = re.compile(r"(?:gpt-\d|o\d|chatgpt|codex)")


def check_body(url: str, body: Any) -> list[str]:
    """Problems of a job's body, worded for its author: where, what is wrong, and what would be right.

    Names fields and positions, but never quotes a value, which may be private. The model's name is not checked here:
    that depends on the configuration.
    """
    if url not in ENDPOINTS:
        return [f"url must be one of {', '.join(sorted(ENDPOINTS))}"]
    if not isinstance(body, dict):
        return ["body must be a JSON object"]
    problems = list(islice(_checks(url, body), MAX_PROBLEMS + 1))  # a hostile body may have millions
    if len(problems) > MAX_PROBLEMS:
        problems[MAX_PROBLEMS] = "and more problems in this body"
    return problems


def _checks(url: str, body: Mapping[str, Any]) -> Iterator[str]:
    if not _is_off(body.get("stream")):
        yield "stream must be false or absent: a batch collects whole answers"
    if not _is_off(body.get("background")):
        yield "background must be false or absent: the call itself must bring the answer"
    match url:
        case "/v1/chat/completions":
            yield from _check_turns(body)
            yield from _check_whole_number(body, "n", MAX_CHOICES)
            yield from _check_whole_number(body, "max_tokens", MAX_OUTPUT_TOKENS)
            yield from _check_whole_number(body, "max_completion_tokens", MAX_OUTPUT_TOKENS)
        case "/v1/responses":
            yield from _check_responses_input(body)
            yield from _check_whole_number(body, "max_output_tokens", MAX_OUTPUT_TOKENS)
        case "/v1/messages":
            yield from _check_turns(body)
            if body.get("system") is not None and not isinstance(body["system"], str | list):
                yield "system must be a string or a list of text blocks"
            yield from _check_whole_number(body, "max_tokens", MAX_OUTPUT_TOKENS)
        case _:
            yield from _check_embeddings_input(body)
    for field in ("temperature", "top_p"):
        value = body.get(field)
        if value is not None and (isinstance(value, bool) or not isinstance(value, int | float)):
            yield f"{field} must be a number"
    if body.get("tools") is not None and not isinstance(body["tools"], list):
        yield "tools must be a list"


def _is_off(value: Any) -> bool:
    return value is None or value is False


def _check_turns(body: Mapping[str, Any]) -> Iterator[str]:
    messages = body.get("messages")
    if messages is None:
        yield "messages is missing: a list of objects with role and content"
        return
    if not isinstance(messages, list) or not messages:
        yield "messages must be a list with at least one message"
        return
    for position, message in enumerate(messages):
        where = f"messages[{position}]"
        if not isinstance(message, dict):
            yield f"{where} must be an object with role and content"
        elif not isinstance(message.get("role"), str) or not message["role"]:
            yield f"{where}.role is missing: a string such as user"
        elif message.get("content") is None:
            # An assistant's turn may hold tool calls alone.
            if message["role"] != "assistant":
                yield f"{where}.content is missing: a string or a list of parts"
        elif not isinstance(message["content"], str):
            yield from _check_parts(f"{where}.content", message["content"])


def _check_parts(where: str, parts: Any) -> Iterator[str]:
    if not isinstance(parts, list):
        yield f"{where} must be a string or a list of parts"
        return
    for position, part in enumerate(parts):
        if not isinstance(part, dict) or not isinstance(part.get("type"), str):
            yield f"{where}[{position}] must be an object with a type"


def _check_responses_input(body: Mapping[str, Any]) -> Iterator[str]:
    value = body.get("input")
    if value is None:
        if not any(body.get(field) for field in STORED_AT_THE_PROVIDER):
            yield "input is missing: a string or a list of items"
    elif not isinstance(value, str | list) or not value:
        yield "input must be a string or a list of items, not empty"
    elif isinstance(value, list):
        for position, item in enumerate(value):
            if not isinstance(item, dict):
                yield f"input[{position}] must be an object"
    if body.get("instructions") is not None and not isinstance(body["instructions"], str):
        yield "instructions must be a string"


def _check_embeddings_input(body: Mapping[str, Any]) -> Iterator[str]:
    value = body.get("input")
    right = "a string, a list of strings, or tokens as a list of whole numbers or of such lists"
    if value is None:
        yield f"input is missing: {right}"
    elif not isinstance(value, str | list) or not value:
        yield f"input must be {right}, not empty"
    elif isinstance(value, list):
        kinds = {type(item) for item in value}
        if len(kinds) > 1 or not kinds <= {str, int, list}:
            yield f"input must be {right}, all of one kind"
        elif kinds == {list} and not all(inner and all(type(i) is int for i in inner) for inner in value):
            yield f"input must be {right}"
        elif kinds != {int} and len(value) > MAX_EMBEDDING_INPUTS:
            yield f"input must have at most {MAX_EMBEDDING_INPUTS} entries"


def _check_whole_number(body: Mapping[str, Any], field: str, most: int) -> Iterator[str]:
    value = body.get(field)
    if value is not None and not (type(value) is int and 1 <= value <= most):
        yield f"{field} must be a whole number from 1 to {most}"


def choices(url: str, body: Mapping[str, Any]) -> int:
    """The number of answers that one call asks for: `n` of a chat completion, else 1."""
    return (_natural(body.get("n")) or 1) if url == CHAT else 1


def output_ceiling(url: str, body: Mapping[str, Any]) -> int | None:
    """The most output tokens of this call, over all its answers. None if the body sets no ceiling."""
    if url == EMBEDDINGS:
        return 0
    fields = ("max_completion_tokens", "max_tokens") if url == CHAT else _CEILING_FIELD.get(url, ())
    ceilings = [ceiling for field in fields if (ceiling := _natural(body.get(field))) is not None]
    return max(ceilings) * choices(url, body) if ceilings else None


def with_output_ceiling(url: str, body: Mapping[str, Any], ceiling: int, *, model: str = "") -> dict[str, Any]:
    """A copy of `body` in which each answer has at most `ceiling` output tokens.

    Sets the field that the body already has, else the one that `model` (the target's name for it) takes. With `n`
    answers the call's ceiling is n times this. Embeddings have no output, so their body is unchanged.
    """
    if url == EMBEDDINGS:
        return dict(body)
    if url != CHAT:
        return {**body, _CEILING_FIELD[url][0]: ceiling}
    present = [field for field in ("max_completion_tokens", "max_tokens") if body.get(field) is not None]
    return {**body, **dict.fromkeys(present or [_chat_ceiling_field(body, model)], ceiling)}


_CEILING_FIELD: Final[dict[str, tuple[str, ...]]] = {
    RESPONSES: ("max_output_tokens",),
    MESSAGES: ("max_tokens",),
}


def _chat_ceiling_field(body: Mapping[str, Any], model: str) -> str:
    name = model.rpartition("/")[2].lower()
    # OpenAI's guide on predicted outputs: max_completion_tokens is not supported beside `prediction`.
    if body.get("prediction") is None and _TAKES_MAX_COMPLETION_TOKENS.match(name):
        return "max_completion_tokens"
    return "max_tokens"


def _natural(value: Any) -> int | None:
    return value if type(value) is int and value > 0 else None
