"""Lines that ask for JSON with a schema."""

from typing import Any

from tests.support.site import Line, job

#: An object with a number and a word.
SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {"total": {"type": "integer"}, "word": {"type": "string"}},
    "required": ["total", "word"],
    "additionalProperties": False,
}


def asking(number: int, **body: Any) -> Line:
    """A chat job whose answer must match `SCHEMA`."""
    form = {"type": "json_schema", "json_schema": {"name": "sum", "strict": True, "schema": SCHEMA}}
    return job(number, response_format=form, **body)
