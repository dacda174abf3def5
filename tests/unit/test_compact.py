"""JSON with the digits that it came with."""

import json
from enum import StrEnum
from typing import Any

import orjson
import pytest

from limits.client.compact_json import Decimals, Whole, dumps, loads

EXACT = [
    b"92055901755477000271990251",
    b"-123456789012345678901",
    b"18446744073709551616",
    b"-9223372036854775809",
    b"3.14159265358979323846",
    b"12345678901234567890.5e3",
    b"12345678901234567890e400",
    b"9" * 6000,
]


@pytest.mark.parametrize("text", EXACT, ids=lambda text: text[:20].decode())
def test_long_numbers_are_written_as_they_were_read(text: bytes) -> None:
    raw = b'{"a":[' + text + b',1,0.5],"b":"\xc3\xa4"}'
    assert dumps(loads(raw)) == raw


@pytest.mark.parametrize("text", [b"18446744073709551615", b"-9223372036854775808", b"0.30000000000000004", b"0.1"])
def test_what_fits_is_a_plain_number(text: bytes) -> None:
    (value,) = loads(b"[" + text + b"]")
    assert type(value) in {int, float}
    assert dumps([value]) == b"[" + text + b"]"


def test_long_numbers_are_numbers() -> None:
    whole, decimals = loads(b"[92055901755477000271990251,3.14159265358979323846]")
    assert isinstance(whole, Whole)
    assert whole == 92055901755477000271990251
    assert isinstance(decimals, Decimals)
    assert decimals == pytest.approx(3.141592653589793)
    # As kombu writes it: a whole number keeps its digits.
    assert json.dumps(whole) == "92055901755477000271990251"


class Word(StrEnum):
    A = "a"


def test_what_orjson_writes_is_written() -> None:
    for value in ({"a": Word.A, Word.A: [True, None]}, [1.5, "ä"], {"x": {"y": []}}):
        assert dumps(value) == orjson.dumps(value)


@pytest.mark.parametrize("value", [10**30, "\ud800", object(), {"a": [10**30, Whole(10**30)]}])
def test_what_cannot_be_written_is_a_type_error(value: Any) -> None:
    with pytest.raises(TypeError):
        dumps(value)


@pytest.mark.parametrize(
    "raw", [b"", b"{", b"[" * 100_000, b'["000000000000000000' + b"[" * 5000, b"\xff000000000000000000"]
)
def test_what_is_no_json_is_a_value_error(raw: bytes) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - orjson's and json's say different things
        loads(raw)
