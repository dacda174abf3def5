"""JSON schemas that answers are checked against.

Whether a schema is valid itself is found out once, and remembered by its digest in bounded memory. jsonschema is
imported with the first schema: a worker whose lines have none doesn't load it.
"""

import hashlib
from typing import Any, Final

import orjson

from tasks.answers.patterns import Uncheckable

#: Bytes of JSON: a larger schema is not checked.
MAX_SCHEMA: Final = 64 << 10

#: Schemas that are remembered; then all are looked at again.
MAX_KNOWN: Final = 4_096

#: Characters of a problem that are reported.
MAX_WORDS: Final = 300

#: By digest, why a schema cannot be used; '' if it can.
_known: dict[bytes, str] = {}


def problem(schema: Any, value: Any) -> str:
    """The first problem of `value`, in words; '' if the schema accepts it. Raises Uncheckable if it cannot be used."""
    from tasks.answers import bounded  # noqa: PLC0415 - jsonschema takes 0.1 s to import

    _check_itself(schema)
    found = bounded.first_problem(schema, value)
    return "" if found is None else cut(f"{found.json_path}: {found.message}")


def cut(words: str) -> str:
    """Some words without their middle if they are long: a problem quotes the answer first, then says what is wrong."""
    half = MAX_WORDS // 2
    return words if len(words) <= MAX_WORDS else f"{words[: half - 1]}…{words[-half:]}"


def _check_itself(schema: Any) -> None:
    """Raise Uncheckable if the schema itself is invalid."""
    try:
        written = orjson.dumps(schema)
    except TypeError:
        raise Uncheckable("the schema is nested too deeply") from None
    digest = hashlib.blake2b(written, digest_size=16).digest()
    trouble = _known.get(digest)
    if trouble is None:
        trouble = _trouble(schema, len(written))
        if len(_known) >= MAX_KNOWN:
            _known.clear()
        _known[digest] = trouble
    if trouble:
        raise Uncheckable(trouble)


def _trouble(schema: Any, size: int) -> str:
    """Why a schema cannot be used; '' if it can."""
    from tasks.answers import bounded  # noqa: PLC0415 - as above

    if size > MAX_SCHEMA:
        return f"the schema is larger than {MAX_SCHEMA >> 10} KB"
    if not isinstance(schema, dict | bool):
        return "the schema is not an object"
    try:
        found = bounded.first_problem(bounded.metaschema_of(schema), schema)
    except Uncheckable as why:
        return f"the schema itself cannot be checked: {why}"
    return "" if found is None else cut(f"the schema itself is not valid: {found.json_path}: {found.message}")
