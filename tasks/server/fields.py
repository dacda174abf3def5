"""Checks the fields of requests; each raises ApiError 400 that names the field."""

from typing import Any, Final

from tasks.jobs.job import AGENTS, URLS
from tasks.server.errors import bad_request
from workers.config import units
from workers.config.fields import AGENT_NAME, YEAR

#: Pairs of `metadata`, and characters of a key and a value.
METADATA: Final = (16, 64, 512)

#: Seconds for which a file may be kept, if its expiry is set.
EXPIRY: Final = (3_600, 2_592_000)


def text(body: dict[str, Any], name: str, longest: int = 200) -> str:
    """A required string."""
    value = body.get(name)
    if value is None:
        raise bad_request(f"Missing required parameter: '{name}'.", name, "missing_required_parameter")
    if not isinstance(value, str) or not value or len(value) > longest:
        raise bad_request(f"{name} must be a string of 1 to {longest} characters.", name, "invalid_type")
    return value


def endpoint(body: dict[str, Any]) -> str:
    """The endpoint of a batch: the url of all its lines."""
    value = text(body, "endpoint")
    if value in URLS or (value.startswith(AGENTS) and AGENT_NAME.fullmatch(value.removeprefix(AGENTS))):
        return value
    raise bad_request(f"endpoint must be one of {', '.join(URLS)}, or {AGENTS}NAME.", "endpoint", "invalid_value")


def window(body: dict[str, Any]) -> float:
    """The seconds of `completion_window`, which may be any duration: 24h, 90m, 7d."""
    value = text(body, "completion_window")
    try:
        return units.seconds(value, YEAR)
    except ValueError as exc:
        raise bad_request(f"completion_window {exc}.", "completion_window", "invalid_value") from None


def metadata(body: dict[str, Any]) -> dict[str, str]:
    """Up to 16 pairs of strings."""
    value = body.get("metadata")
    if value is None:
        return {}
    pairs, key, longest = METADATA
    sound = isinstance(value, dict) and len(value) <= pairs
    if not sound or not all(isinstance(each, str) and len(each) <= longest for each in value.values()):
        words = f"metadata must be an object of at most {pairs} strings, each of at most {longest} characters."
        raise bad_request(words, "metadata", "invalid_value")
    if not all(0 < len(name) <= key for name in value):
        raise bad_request(f"A key of metadata has at most {key} characters.", "metadata", "invalid_value")
    return dict(value)


def expires_after(anchor: Any, seconds: Any, name: str) -> int:
    """The seconds from a file's creation to its expiry."""
    if anchor != "created_at":
        raise bad_request(f'{name}.anchor must be "created_at".', f"{name}.anchor", "invalid_value")
    least, most = EXPIRY
    if isinstance(seconds, bool) or not isinstance(seconds, int) or not least <= seconds <= most:
        words = f"{name}.seconds must be a whole number from {least:,} to {most:,}."
        raise bad_request(words, f"{name}.seconds", "invalid_value")
    return seconds


def output_expires_after(body: dict[str, Any]) -> int:
    """Seconds from a batch's end after which its files expire; 0 for never."""
    name = "output_expires_after"
    value = body.get(name)
    if value is None:
        return 0
    if not isinstance(value, dict):
        raise bad_request(f"{name} must be an object with anchor and seconds.", name, "invalid_type")
    return expires_after(value.get("anchor"), value.get("seconds"), name)
