"""Reads a provider's error, whatever its shape: an object, a string, a list, an event, or none of them."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Final

from workers.providers.envelopes import enveloped_error

# Characters that are kept of a message.
_LONGEST_WORDS: Final = 500

# Characters that are kept of a code.
_LONGEST_CODE: Final = 64

# Characters of a message that are cleaned before it is cut.
_SEARCHED: Final = 4_000

# The status that an error within a 2xx would have had, by OpenAI's, Anthropic's and llama.cpp's error types.
_STATUS_OF_WORD: Final = {
    "invalid_request_error": 400,
    "exceed_context_size_error": 400,
    "context_length_exceeded": 400,
    "invalid_prompt": 400,
    "authentication_error": 401,
    "billing_error": 402,
    "permission_error": 403,
    "not_found_error": 404,
    "request_too_large": 413,
    "rate_limit_error": 429,
    "rate_limit_exceeded": 429,
    "insufficient_quota": 429,
    "unavailable_error": 503,
    "overloaded_error": 529,
    "timeout_error": 504,
}


@dataclass(frozen=True, slots=True)
class ErrorBody:
    """What a provider's error says.

    - `code`, `words`: its code and message, '' if missing
    - `stated_status`: the HTTP status that it names or would have had
    - `flagged`: the prompt was moderated
    - `param`: the field of the request that it names, or ''
    - `own`: it is meaningful JSON, as the provider's API writes it; proxies send text, HTML or nothing
    - `generated`: the model wrote something that the provider could not use
    """

    code: str
    words: str
    stated_status: int | None = None
    flagged: bool = False
    param: str = ""
    own: bool = False
    generated: bool = False


def read_error(body: Any, *, key: str) -> ErrorBody:
    """The error in a body, with empty code and words if there is none. `key` is removed from them. Never raises."""
    if isinstance(body, list) and body:  # Gemini's OpenAI-compatible endpoint
        body = body[0]
    if not isinstance(body, dict):
        return ErrorBody("", "" if not isinstance(body, str) else _clean(_unless_html(body), key))
    error = body.get("error")
    if not error and (envelope := enveloped_error(body)) is not None:
        return ErrorBody(envelope.code, _clean(envelope.words, key), envelope.status, own=True)
    if isinstance(error, str):
        error = {"message": error}
    if not isinstance(error, dict):
        error = _error_of_choice(body) or body
    words = [_words(error.get("message")) or _words(error.get("detail")) or _words(body.get("detail"))]
    metadata = error.get("metadata")
    flagged = isinstance(metadata, dict) and ("flagged_input" in metadata or "reasons" in metadata)
    if isinstance(metadata, dict) and isinstance(metadata.get("raw"), str):
        words.append(metadata["raw"])  # OpenRouter: what the provider behind it said
    code = _code(error, key)
    said = _clean(" | ".join(filter(None, words)), key)
    return ErrorBody(
        code,
        said,
        _stated_status(error, code),
        flagged,
        param=error["param"] if isinstance(error.get("param"), str) else "",
        own=bool(code or said),
        generated="failed_generation" in error,
    )


def _error_of_choice(body: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """The error that OpenRouter puts into a choice if a model fails after it has begun."""
    choices = body.get("choices")
    first = choices[0] if isinstance(choices, list) and choices else None
    error = first.get("error") if isinstance(first, dict) else None
    return error if isinstance(error, dict) else None


def _code(error: Mapping[str, Any], key: str) -> str:
    """The provider's most specific word: its code, unless that repeats the status, else its type or status.

    It may repeat a prompt; see `shown`.
    """
    for field in ("code", "type", "status"):
        value = error.get(field)
        # llama.cpp and OpenRouter repeat the status as a number, Azure as a string of digits.
        if isinstance(value, str) and value and not value.isdigit() and not _holds_key(value, key):
            code = value[:_LONGEST_CODE]
            if code != "error":
                return code
    return ""


def _stated_status(error: Mapping[str, Any], code: str) -> int | None:
    value = error.get("code")
    if type(value) is int and HTTPStatus.BAD_REQUEST <= value <= 599:  # noqa: PLR2004  # the last of the statuses
        return value
    for word in (code, error.get("type")):
        if isinstance(word, str) and word in _STATUS_OF_WORD:
            return _STATUS_OF_WORD[word]
    return 500 if error.get("message") or code else None


def _words(value: Any) -> str:
    """A message, or a validator's findings without the rejected input, which is the job's."""
    if isinstance(value, str):
        return value
    if isinstance(value, dict):
        return _words(value.get("message") or value.get("detail") or value.get("msg"))
    if isinstance(value, list):
        return "; ".join(filter(None, (_finding(item) for item in value[:5])))
    return ""


def _finding(item: Any) -> str:
    if not isinstance(item, dict):
        return ""
    where = item.get("loc")
    path = ".".join(str(part)[:40] for part in where[:8]) if isinstance(where, list | tuple) else ""
    said = item.get("msg") if isinstance(item.get("msg"), str) else ""
    return f"{path}: {said}" if path and said else said or ""


def shown(code: str) -> str:
    """A provider's code as logs, metrics and pages may show it, '' if it might be something else."""
    return code if _PLAIN_CODE.fullmatch(code) else ""


def _holds_key(text: str, key: str) -> bool:
    prefix = key[:_RECOGNIZABLE_PREFIX] if len(key) >= 2 * _RECOGNIZABLE_PREFIX else key
    return len(key) >= _SHORTEST_SECRET and prefix in text


# A code that certainly is one.
_PLAIN_CODE: Final = re.compile(r"[a-z0-9_.-]{1,40}")

# A key as providers mask it.
_MASKED_KEY: Final = re.compile(r"[\w-]{0,40}\*{3,}[\w*-]{0,40}")

# Shorter keys are not removed from texts: they could be any word.
_SHORTEST_SECRET: Final = 4

# The characters of a key's beginning that identify it, even if the rest is cut off.
_RECOGNIZABLE_PREFIX: Final = 8


def _clean(text: str, key: str) -> str:
    """Words for a person: one line of bounded length without the key, not even a masked one."""
    text = text[:_SEARCHED]
    if len(key) >= _SHORTEST_SECRET:
        text = text.replace(key, "[key]")
    if len(key) >= 2 * _RECOGNIZABLE_PREFIX:
        text = re.sub(re.escape(key[:_RECOGNIZABLE_PREFIX]) + r"\S{0,200}", "[key]", text)
    text = " ".join(_MASKED_KEY.sub("[key]", text).split())
    text = "".join(character for character in text if character.isprintable())
    return text if len(text) <= _LONGEST_WORDS else text[: _LONGEST_WORDS - 1] + "…"


def _unless_html(text: str) -> str:
    return "" if text.lstrip()[:1] == "<" else text
