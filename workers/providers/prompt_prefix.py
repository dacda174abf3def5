"""What prompts have in common for a provider's prompt cache: how they begin.

A provider reads the tools and the form of the answer first, then the system prompt, then the messages. From 1,024
tokens on it keeps what it has read (https://platform.openai.com/docs/guides/prompt-caching), and a later prompt that
begins with the same tokens costs a part of the price. Anthropic keeps only what a request marks with `cache_control`
(https://platform.claude.com/docs/en/build-with-claude/prompt-caching).
"""

import hashlib
from collections.abc import Iterator, Mapping
from itertools import takewhile
from typing import Any, Final
from urllib.parse import urlsplit

import orjson

from workers.providers.endpoints import EMBEDDINGS, MESSAGES

#: Bytes of the shortest prefix: 1,024 tokens of about four bytes.
LEAST: Final = 4_096

#: The field by which OpenAI finds the machine whose cache has a prompt.
CACHE_KEY: Final = "prompt_cache_key"

_OPENAI: Final = "api.openai.com"
_HEAD: Final = ("tools", "functions", "response_format", "text", "system", "instructions")
_SYSTEM_ROLES: Final = ("system", "developer")


def prefix_of(url: str, body: Mapping[str, Any]) -> str:
    """A digest that is the same for prompts of a model that can use each other's cache; '' if this one can't.

    It covers tools, the form of the answer and the system prompt, however long these are. If they are shorter than
    `LEAST` bytes, it covers as much of the messages as is missing. A `prompt_cache_key` of the body's own replaces
    all of that: its author knows what the prompts share.
    """
    model = str(body.get("model"))
    if url == EMBEDDINGS or (url == MESSAGES and not any(map(_is_marked, _blocks(body)))):
        return ""
    if own := body.get(CACHE_KEY):
        return _digest(f"{model}\n{own}".encode())
    said = body.get("messages", body.get("input"))
    turns = said if isinstance(said, list) else [said]
    system = list(takewhile(_is_system, turns))
    try:
        text = _json([[body.get(field) for field in _HEAD], system])
        for turn in turns[len(system) :]:
            if len(text) >= LEAST:
                break
            text += _json(turn)[: LEAST - len(text)]
    except TypeError:  # nested too deeply
        return ""
    return _digest(model.encode() + b"\n" + text) if len(text) >= LEAST else ""


def takes_cache_key(api: str, base_url: str) -> bool:
    """Whether a provider takes `CACHE_KEY`. Only OpenAI itself does for certain.

    Azure refuses it for some models (https://github.com/vectorize-io/hindsight/issues/3518).
    """
    host = urlsplit(base_url).hostname or ""
    return api == "openai" and (host == _OPENAI or host.endswith(f".{_OPENAI}"))


def _is_system(turn: Any) -> bool:
    return isinstance(turn, dict) and turn.get("role") in _SYSTEM_ROLES


def _blocks(body: Mapping[str, Any]) -> Iterator[Any]:
    """Everything in a request of Anthropic's that may be marked: itself, tools, and blocks of text."""
    yield body
    turns = body.get("messages")
    said = [turn.get("content") for turn in turns if isinstance(turn, dict)] if isinstance(turns, list) else []
    for part in (body.get("tools"), body.get("system"), *said):
        yield from part if isinstance(part, list) else ()


def _is_marked(block: Any) -> bool:
    return isinstance(block, Mapping) and bool(block.get("cache_control"))


def _json(value: Any) -> bytes:
    return orjson.dumps(value)


def _digest(text: bytes) -> str:
    return hashlib.blake2b(text, digest_size=16).hexdigest()
