"""JSON that takes no more memory than it needs, and keeps all digits of a number.

orjson writes into a buffer of 4 KB and returns it however short the text is, which thousands of calls in flight would
keep. It also reads a whole number beyond 64 bits as a float. `loads` reads such numbers as `Whole` and `Decimals`, and
`dumps` writes those unchanged.
"""

import json
from collections.abc import Callable
from decimal import Decimal
from typing import Any, Final, Self

import orjson

_SIGNIFICANT: Final = 17
"""Significant digits that a float holds."""

_ZEROS: Final = bytes.maketrans(b"123456789", b"000000000")
"""Makes every digit a zero, so that a long number can be found by searching for zeros."""

_MANY: Final = b"0" * (_SIGNIFICANT + 1)
"""A number with more digits than a float holds, after `_ZEROS`."""

_INT64: Final = range(-(1 << 63), 1 << 64)
"""The whole numbers that orjson reads exactly."""


class Whole(int):
    """A whole number beyond 64 bits."""


class Decimals(float):
    """A number with more digits than a float holds; `text` is how it was written."""

    def __new__(cls, text: str) -> Self:
        """The nearest float; infinite if the number is too large."""
        made = super().__new__(cls, text)
        made.text = text
        return made

    text: str


def dumps(value: Any) -> bytes:
    """`value` as JSON. TypeError if it cannot be written."""
    try:
        written = orjson.dumps(value, _as_it_came)
    except TypeError:
        written = orjson.dumps(value, _as_it_came, orjson.OPT_PASSTHROUGH_SUBCLASS)  # a `Whole` may be in it
    return memoryview(written).tobytes()


def _as_it_came(value: Any) -> Any:
    match value:
        case Whole():
            return orjson.Fragment(int.__repr__(value).encode())
        case Decimals():
            return orjson.Fragment(value.text.encode())
    kinds: tuple[Any, ...] = (str, int, float, dict, list)
    for kind in kinds:
        if isinstance(value, kind):
            return kind(value)
    raise TypeError


def loads(raw: bytes | str) -> Any:
    """The value of a JSON text, with all its digits. ValueError if the text is not JSON."""
    if isinstance(raw, str):
        raw = raw.encode()
    if not has_long_number(raw):
        return orjson.loads(raw)
    try:
        return decoder().decode(raw.decode())
    except RecursionError:
        raise ValueError("nested too deeply") from None


def has_long_number(raw: bytes) -> bool:
    """Whether a text may hold a number with more digits than orjson keeps. Quick, because it does not parse."""
    return _MANY in raw.translate(_ZEROS, b".")


def decoder(long: Callable[[str], Any] | None = None) -> json.JSONDecoder:
    """A decoder that accepts NaN (as null) and line breaks in strings. `long` gets the text of each long number."""
    keep = long or long_number

    def whole(text: str) -> Any:
        return int(text) if len(text) < _SIGNIFICANT or is_exact(text) else keep(text)

    def decimals(text: str) -> Any:
        return float(text) if is_exact(text) else keep(text)

    return json.JSONDecoder(parse_int=whole, parse_float=decimals, parse_constant=lambda _: None, strict=False)


def is_exact(text: str) -> bool:
    """Whether a number keeps its value when it is read and written."""
    if text.lstrip("-").isdigit():
        return len(text) <= len(str(_INT64.start)) and int(text) in _INT64
    if len(text) <= _SIGNIFICANT and "e" not in text.lower():
        return True
    return Decimal(text) == Decimal(repr(float(text)))


def long_number(text: str) -> Whole | Decimals:
    """A number that keeps its digits."""
    try:
        return Whole(text)
    except ValueError:  # a fraction, or longer than Python reads whole numbers
        return Decimals(text)
