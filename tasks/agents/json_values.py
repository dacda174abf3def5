"""What an agent and its steps return, as JSON: written and read back the same, or refused in words.

What they ask for stands in the journal as a digest.
"""

import hashlib
import json
from typing import Any, Final

import orjson

#: The longest message of an exception that goes into a result line or a journal, in characters.
LONGEST: Final = 2_000


class Unwritable(ValueError):  # noqa: N818 - names what was found
    """A value that JSON cannot hold; says where in it, and what is there."""


def encode(value: Any) -> bytes:
    """The value as JSON; Unwritable where it has no such form."""
    try:
        return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()
    except (TypeError, ValueError, RecursionError):
        raise Unwritable(_found(value, "the value", 0)) from None


def decode(text: bytes) -> Any:
    """The value that `encode` wrote; whole numbers keep their size."""
    return json.loads(text)


def digest(kind: str, name: str, request: Any) -> str:
    """What stands for a request in the journal: equal for equal requests, and nothing can be read from it.

    What JSON cannot hold counts by its type alone: an address in memory is another in each process.
    """
    asked = [kind, name, request]
    try:
        text = orjson.dumps(asked, default=_kind, option=orjson.OPT_SORT_KEYS | _LENIENT)
    except TypeError:  # a whole number beyond 64 bits, half of a surrogate pair
        text = json.dumps(asked, default=_kind, sort_keys=True).encode()
    return hashlib.blake2b(text, digest_size=12).hexdigest()


_LENIENT = orjson.OPT_NON_STR_KEYS


def _kind(value: Any) -> str:
    return type(value).__qualname__


def cut(text: str) -> str:
    """A message at a bounded length, in characters that every file can hold."""
    text = text.encode("utf-8", "replace").decode()
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}…"


def told(error: BaseException) -> str:
    """An exception's type and message."""
    try:
        message = str(error)
    except Exception:  # noqa: BLE001 - an exception of the user's, whose own words fail
        message = "its message cannot be read"
    return cut(f"{type(error).__name__}: {message}" if message else type(error).__name__)


_DEEPEST = 100


def _found(value: Any, where: str, depth: int) -> str:
    """The first thing in a value that JSON has no form for. Names types and keys, and quotes no value."""
    if depth > _DEEPEST:
        return f"{where} is nested deeper than {_DEEPEST} levels, or holds itself"
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
