"""The JSON of an answer, as far as it is one: also of what servers write that JSON has not.

Such an answer is paid for, and the next would be the same: half a surrogate pair becomes a replacement character, as
do bytes that are no UTF-8; NaN becomes null; a byte order mark, other encodings of Unicode, line breaks in strings and
lines of `data: [DONE]` after the JSON are read over.
"""

import json
import re
from typing import Any, Final

import orjson

from limits.client import compact_json

#: Bytes of a text that is no JSON which are looked at.
SEARCHED: Final = 4_000

# A whole pair, or half of one, or any other escape: read from the left, so that `\\ud83d` is a backslash and a word.
_ESCAPE: Final = re.compile(
    r"\\(?:u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|(u[dD][89a-fA-F][0-9a-fA-F]{2})|.)", re.DOTALL
)
_AFTER: Final = re.compile(r"(?:\s|\0|data:\s*\[DONE\])*")


def decode(content: bytes, *, exact: bool = True) -> Any:
    """The JSON of a body; the beginning of its text where it is none; None where it is empty.

    `exact` keeps the digits of numbers that are longer than a float holds, which takes a while with many fractions.
    """
    if not content.strip():
        return None
    try:
        return compact_json.loads(content) if exact else orjson.loads(content)
    except ValueError:
        text = _text(content)
    if text.lstrip()[:1] in {"{", "["}:
        mended = _ESCAPE.sub(_whole, text.lstrip())
        try:
            value, end = compact_json.decoder().raw_decode(mended)
        except (ValueError, RecursionError):
            pass
        else:
            if _AFTER.fullmatch(mended, end):
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
    """The error in a stream of events, which some send though no stream was asked for."""
    for line in text.splitlines() if text.startswith(("event:", "data:")) else ():
        try:
            event = orjson.loads(line.removeprefix("data:"))
        except orjson.JSONDecodeError:
            continue
        if isinstance(event, dict) and event.get("error"):
            return event
    return None
