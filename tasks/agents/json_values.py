"""What an agent and its steps return, as JSON, and the digests of what they ask for.

A value that would be read back differently from JSON is refused, with a message that says what it is and where.
"""

import hashlib
import json
from typing import Any, Final

import orjson

#: Characters of an exception's message that a result line or a journal keeps.
MAX_MESSAGE: Final = 2_000

#: Levels of nesting that the search for an unwritable part goes down.
_MAX_DEPTH: Final = 100


class Unwritable(ValueError):  # noqa: N818 - names what was found
    """JSON cannot hold the value; the message names the part of it that is the problem."""


def encode(value: Any) -> bytes:
    """The value as JSON; Unwritable if JSON cannot hold it."""
    try:
        return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()
    except (TypeError, ValueError, RecursionError):
        raise Unwritable(_found(value, "the value", 0)) from None


def decode(text: bytes) -> Any:
    """The value that `encode` wrote; integers of any size stay exact."""
    return json.loads(text)


def digest(kind: str, name: str, request: Any) -> str:
    """A digest that stands for a request in the journal: equal requests have equal digests.

    Of a value that JSON cannot hold only the type counts: its repr may contain an address, which each process changes.
    """
    asked = [kind, name, request]
    try:
        text = orjson.dumps(asked, default=_kind, option=orjson.OPT_SORT_KEYS | orjson.OPT_NON_STR_KEYS)
    except TypeError:  # an integer over 64 bits, half of a surrogate pair
        text = json.dumps(asked, default=_kind, sort_keys=True).encode()
    return hashlib.blake2b(text, digest_size=12).hexdigest()


def _kind(value: Any) -> str:
    return type(value).__qualname__


def cut(text: str) -> str:
    """A message of at most `MAX_MESSAGE` characters, without surrogates, which UTF-8 cannot hold."""
    text = text.encode("utf-8", "replace").decode()
    return text if len(text) <= MAX_MESSAGE else f"{text[:MAX_MESSAGE]}…"


def error_text(error: BaseException) -> str:
    """An exception's type and message."""
    try:
        message = str(error)
    except Exception:  # noqa: BLE001 - a user's exception, whose own __str__ fails
        message = "its message cannot be read"
    return cut(f"{type(error).__name__}: {message}" if message else type(error).__name__)


def _found(value: Any, where: str, depth: int) -> str:
    """The first part of a value that JSON cannot hold, or ''. Quotes keys and types, never values."""
    if depth > _MAX_DEPTH:
        return f"{where} is nested deeper than {_MAX_DEPTH} levels, or holds itself"
    match value:
        case None | bool() | int():
            return ""
        case float():
            return "" if value - value == 0 else f"{where} is {value}"
        case str():
            return "" if _is_text(value) else f"{where} is a string with half of a surrogate pair"
        case dict():
            for key, item in value.items():
                if not isinstance(key, str | int | float | bool | None):
                    return f"{where} has a key that is a {type(key).__name__}"
                if words := _found(item, f"{where}[{key!r:.40}]", depth + 1):
                    return words
            return ""
        case list() | tuple():
            for index, item in enumerate(value):
                if words := _found(item, f"{where}[{index}]", depth + 1):
                    return words
            return ""
    return f"{where} is a {type(value).__name__}"


def _is_text(value: str) -> bool:
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True
