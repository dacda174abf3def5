"""The size of an embeddings answer before the call: a float takes five times its bytes as text."""

from collections.abc import Mapping
from typing import Any, Final

from workers.providers.endpoints import LARGEST_ANSWER

#: The average bytes of a 32-bit float as JSON with its comma, at least.
_NUMBER: Final = 21

#: The length of a vector if the body doesn't say. For other models it is unknown.
_DIMENSIONS: Final = {
    "text-embedding-3-large": 3_072,
    "gemini-embedding-001": 3_072,
    "gemini-embedding-2": 3_072,
    "qwen3-embedding-8b": 4_096,
}


def texts(body: Mapping[str, Any]) -> int:
    """How many texts a valid body embeds."""
    value = body.get("input")
    return len(value) if isinstance(value, list) and value and not isinstance(value[0], int) else 1


def too_large(body: Mapping[str, Any], model: str) -> str:
    """Why the answer to a valid body would be larger than `LARGEST_ANSWER`, '' if it isn't known to be."""
    if body.get("encoding_format") == "base64":
        return ""
    inputs = texts(body)
    stated = body.get("dimensions")
    size = stated if type(stated) is int else _DIMENSIONS.get(model.rpartition("/")[2].lower(), 0)
    most = LARGEST_ANSWER // (max(size, 1) * _NUMBER)
    if inputs <= most:
        return ""
    return (
        f"asks for {inputs:,} embeddings of {size:,} numbers, about {inputs * size * _NUMBER >> 20} MB of text, and an "
        f"answer may have {LARGEST_ANSWER >> 20} MB: put at most {most:,} inputs into a line, or set "
        f'encoding_format to "base64"'
    )
