"""Decodes an answer's JSON, including the invalid JSON that some servers write.

Such an answer is paid for, and the next would look the same. So half a surrogate pair becomes a replacement character,
as do bytes that aren't UTF-8, and NaN becomes null. A byte order mark, other Unicode encodings, line breaks in strings
and `data: [DONE]` after the JSON are accepted.
"""

import json
import re
from typing import Any, Final

import orjson

from limits.client import compact_json

#: The characters kept of a text that isn't JSON.
SEARCHED: Final = 4_000

# A surrogate pair, half of one, or any other escape. Read from the left, so that `\\ud83d` is a backslash and a word.
_ESCAPE: Final = re.compile(
    r"\\(?:u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|(u[dD][89a-fA-F][0-9a-fA-F]{2})|.)", re.DOTALL
)
# What may follow the JSON.
_AFTER: Final = re.compile(r"(?:\s|\0|data:\s*\[DONE\])*")


def decode(content: bytes, *, exact: bool = True) -> Any:
    """The JSON of a body, the beginning of its text if it isn't JSON, None if it is empty.

    `exact` keeps all digits of numbers that a float would round, which is slow for many fractions.
    """
    if not content.strip():
        return None
    try:
        return compact_json.loads(content) if exact else orjson.loads(content)
    except ValueError:
        text = _text(content)
    if text.lstrip()[:1] in {"{", "["}:
        repaired = _ESCAPE.sub(_whole, text.lstrip())
        try:
            value, end = compact_json.decoder().raw_decode(repaired)
        except (ValueError, RecursionError):
            pass
        else:
            if _AFTER.fullmatch(repaired, end):
                return value
    found = text[:SEARCHED]
    return _error_event(found) or found


def _text(content: bytes) -> str:
    try:
        return content.decode(json.detect_encoding(content), "replace").removeprefix("\ufeff")
    except (UnicodeError, LookupError):
        return content.decode("utf-8", "replace")


def _whole(escape: re.Match[str]) -> str:
    return "\\ufffd" if escape[1] else escape[0]


def _error_event(text: str) -> dict[str, Any] | None:
    """The error in a stream of events, which some servers send without being asked for a stream."""
    for line in text.splitlines() if text.startswith(("event:", "data:")) else ():
        try:
            event = orjson.loads(line.removeprefix("data:"))
        except orjson.JSONDecodeError:
            continue
        if isinstance(event, dict) and event.get("error"):
            return event
    return None
