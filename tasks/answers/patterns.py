"""Patterns of a JSON schema, matched in linear time by Rust's engine: a hostile one cannot hang a worker."""

import re
from functools import lru_cache
from math import prod
from typing import Final

from pydantic_core import SchemaError, SchemaValidator, core_schema

#: Characters of a pattern, and of a string that is matched against one.
MAX_PATTERN: Final = 1_000
MAX_TEXT: Final = 10_000

#: The product of a pattern's counted repetitions: `(\w{100}){100}` makes 10,000.
MAX_REPETITIONS: Final = 10_000

_COUNTS: Final = re.compile(r"\{(\d{1,9})(?:,(\d{0,9}))?\}")


class Uncheckable(Exception):  # noqa: N818 - names what happened
    """What a schema asks for cannot be checked; the message says why."""


def matches(pattern: str, text: str) -> bool:
    """Whether a part of `text` matches. Raises Uncheckable if the pattern is too large or not supported."""
    if len(text) > MAX_TEXT:
        raise Uncheckable(f"a string of more than {MAX_TEXT:,} characters is not matched against a pattern")
    found = _compiled(pattern)
    if isinstance(found, str):
        raise Uncheckable(found)
    return found.isinstance_python(text)


@lru_cache(maxsize=256)
def _compiled(pattern: str) -> SchemaValidator | str:
    """The pattern's matcher, or why it has none."""
    if len(pattern) > MAX_PATTERN:
        return f"a pattern has more than {MAX_PATTERN:,} characters"
    if prod(max(int(low), int(high or 0), 1) for low, high in _COUNTS.findall(pattern)) > MAX_REPETITIONS:
        return f"a pattern repeats a part of it more than {MAX_REPETITIONS:,} times"
    try:
        return SchemaValidator(core_schema.str_schema(pattern=pattern, regex_engine="rust-regex"))
    except SchemaError as error:
        reason = str(error).rstrip(".").rpartition("error: ")[2].splitlines()[-1]
        return f"a pattern cannot be used: {reason[:200]}"
