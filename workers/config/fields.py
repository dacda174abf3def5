"""The types of the configuration's values: names, counts, money, times and addresses, each with its bounds.

A check that fails raises ValueError. It says what would be right and never repeats what was written.
"""

import re
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, Final, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator, PlainSerializer, ValidationInfo

from workers.config import units
from workers.config.credentials import MissingSecretError, reference, without_password

#: The longest time that a setting takes. Seconds.
YEAR: Final = 365 * 86_400.0

#: The longest time that a call may take. Seconds.
_DAY: Final = 86_400.0

#: Names become parts of queues' names, Redis keys and addresses.
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")

#: An agent's name is part of a url, and may be its function's name.
FUNCTION_NAME: Final = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*")
AGENT_NAME: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")

#: The lanes, cheapest first.
LANES: Final = ("batch", "flex", "live")

_CERT_REQS = re.compile(r"(?<![^&])ssl_cert_reqs=([^&#]*)")


def _checked(check: Callable[[Any], Any]) -> BeforeValidator:
    return BeforeValidator(check)


def _name(value: str) -> str:
    if not _NAME.fullmatch(value):
        raise ValueError(
            "must be a name of letters, digits, - _ and . that begins with a letter or digit, at most 128 characters"
        )
    return value


def _function_name(value: str) -> str:
    if not FUNCTION_NAME.fullmatch(value):
        raise ValueError('must be "module:function", such as "my_checks:invoice"')
    return value


def _agent_name(value: str) -> str:
    if not AGENT_NAME.fullmatch(value):
        raise ValueError("must be an agent's name: letters, digits, - _ and . only, at most 128 characters")
    return value


def is_model_name(value: str) -> bool:
    """Whether `value` may be a model's name: printable, without spaces, at most 256 characters."""
    return bool(value) and len(value) <= 256 and value.isprintable() and " " not in value  # noqa: PLR2004 - said above


def _model_name(value: str) -> str:
    if not is_model_name(value):
        raise ValueError("must be a model's name: printable, without spaces, at most 256 characters")
    return value


def _timezone(value: str) -> str:
    from zoneinfo import ZoneInfo  # noqa: PLC0415 - only if a time zone is named

    try:
        ZoneInfo(value)
    # ZoneInfo raises ValueError and OSError for a path, a folder or an empty name.
    except (LookupError, ValueError, OSError):
        raise ValueError('must be a time zone of the IANA database, such as "UTC" or "Europe/Berlin"') from None
    return value


def _cron(value: str) -> str:
    from celery.schedules import ParseException, crontab  # noqa: PLC0415 - 0.1 s, only if there are schedules

    expected = 'must be five fields, minute hour day month weekday, such as "0 2 * * *"'
    fields = value.split()
    if len(fields) != 5:  # noqa: PLR2004 - cron's five
        raise ValueError(expected)
    minute, hour, day, month, weekday = fields
    try:
        crontab(minute=minute, hour=hour, day_of_month=day, month_of_year=month, day_of_week=weekday)
    except (ParseException, ValueError) as exc:
        raise ValueError(f"{expected}: {str(exc).removeprefix('Invalid crontab: ').rstrip('.')}") from None
    return value


def _burst(value: Any) -> Any:
    if value == "auto":
        return value
    if units.is_number(value) and 0 < value <= 60:  # noqa: PLR2004 - a bucket holds at most a minute
        return float(value)
    raise ValueError('must be "auto" or a number of seconds, above 0 and at most 60')


def _headroom(value: Any) -> Any:
    if value == "auto":
        return value
    if units.is_number(value) and 0 < value <= 1:
        return float(value)
    raise ValueError('must be "auto" or the fraction of a limit to use, above 0 and at most 1')


def _share(value: Any) -> Any:
    if units.is_number(value) and 0 < value <= 1:
        return float(value)
    raise ValueError("must be a part of the live price, above 0 and at most 1")


def lanes(value: Any) -> tuple[str, ...]:
    """The lanes that a workflow or a command names: a list, "auto", or names with commas between them."""
    if value == "auto":
        return LANES
    names = value.split(",") if isinstance(value, str) else value
    expected = f'must be "auto" or a list of {", ".join(LANES)}'
    if not isinstance(names, list | tuple) or not all(isinstance(name, str) for name in names):
        raise ValueError(expected)
    found = tuple(name.strip() for name in names)
    if not set(found) <= set(LANES) or len(set(found)) != len(found):
        raise ValueError(f"{expected}, each once")
    if "live" not in found:
        raise ValueError('must contain "live": what no cheaper lane can carry, or not in time, goes live')
    return tuple(name for name in LANES if name in found)


def folder(info: ValidationInfo) -> Path:
    """The folder that relative paths start from: the configuration file's, else the working folder."""
    return (info.context or {}).get("folder") or Path.cwd()


Name = Annotated[str, AfterValidator(_name)]
AgentName = Annotated[str, AfterValidator(_agent_name)]
FunctionName = Annotated[str, AfterValidator(_function_name)]
ModelName = Annotated[str, AfterValidator(_model_name)]
TimeZone = Annotated[str, AfterValidator(_timezone)]
Count = Annotated[int, _checked(lambda value: units.whole(value, 1))]
CountOrZero = Annotated[int, _checked(lambda value: units.whole(value, 0))]
Weight = Annotated[float, _checked(lambda value: units.number(value, 1e6))]
Seconds = Annotated[float, _checked(lambda value: units.seconds(value, YEAR))]
CallSeconds = Annotated[float, _checked(lambda value: units.seconds(value, _DAY))]
Dollars = Annotated[Decimal, _checked(units.budget)]
Price = Annotated[Decimal, _checked(units.dollars)]
Burst = Annotated[float | Literal["auto"], _checked(_burst)]
Headroom = Annotated[float | Literal["auto"], _checked(_headroom)]
Share = Annotated[float, _checked(_share)]
Lanes = Annotated[tuple[str, ...], _checked(lanes)]
Answers = Annotated[int, _checked(lambda value: units.whole(value, 1, 10))]
Attempts = Annotated[int, _checked(lambda value: units.whole(value, 1, 1000))]
Cron = Annotated[str, AfterValidator(_cron)]
Address = Annotated[str, PlainSerializer(without_password)]

#: What a provider's address must look like.
ADDRESS = 'must be an address such as "https://api.example.com/v1", or "env:NAME"'


def http_address(value: str) -> str:
    """A provider's address, without a trailing slash."""
    try:
        parts = urlsplit(value)
        sound = parts.scheme in {"http", "https"} and parts.hostname and (parts.port or True)
    except ValueError:
        sound = False
    if not sound:
        raise ValueError(ADDRESS)
    if "@" in parts.netloc:
        raise ValueError("must not contain a user or a password: the key belongs in api_key")
    if parts.query or parts.fragment:
        raise ValueError("must not have a query (?…) or a fragment (#…)")
    return value.rstrip("/")


def webhook_address(value: str) -> str:
    """The address of a webhook."""
    try:
        parts = urlsplit(value)
        sound = parts.scheme in {"http", "https"} and parts.hostname and (parts.port or True)
        (parts.hostname or "").encode("idna")
    except ValueError:  # UnicodeError, too
        sound = False
    if not sound or "@" in parts.netloc or parts.fragment or not value.isprintable() or " " in value:
        raise ValueError('must be an address such as "https://hooks.example.com/overnight"')
    return value


def server_address(value: str, folder: Path, schemes: tuple[str, ...], expected: str) -> str:
    """A server's URL, or the one that a reference names. `expected` completes the error message."""
    found = reference(value, folder)
    if found is not None:
        try:
            value = found.value()
        except MissingSecretError as exc:
            raise ValueError(f"cannot be resolved: {exc}") from None
    try:
        parts = urlsplit(value)
        sound = parts.scheme in schemes and bool(parts.hostname) and (parts.port is None or parts.port >= 0)
        if sound and parts.scheme.startswith("redis"):
            sound = re.fullmatch(r"(/\d*)?", parts.path) is not None
    except ValueError:
        sound = False
    if not sound:
        raise ValueError(f'must be a URL, {expected}, or "env:NAME" for a variable that holds one')
    return _trusting(value, parts.query) if parts.scheme == "rediss" else value


def _trusting(url: str, query: str) -> str:
    """The TLS URL with `ssl_cert_reqs` in the one spelling that redis-py, Celery and kombu all accept."""
    found = _CERT_REQS.search(query)
    if found is None:
        # Celery refuses a TLS URL without it. Checking the certificate is the only sensible default.
        return f"{url}{'&' if query else '?'}ssl_cert_reqs=required"
    word = found[1].lower().removeprefix("cert_")
    if word not in {"none", "optional", "required"}:
        raise ValueError("has an unknown ssl_cert_reqs: use required, optional or none")
    return url.replace(found[0], f"ssl_cert_reqs={word}", 1)
