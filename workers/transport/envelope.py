"""What a worker wants of a message before Celery acts on it: nothing in it is believed that was not looked at.

A producer is anyone who reaches the queue. What Celery takes from headers and from the body's third part could name
another workflow, publish into other queues, or leave a slot of the pool for ever.
"""

import math
import re
from collections.abc import Callable
from datetime import datetime
from typing import Any, Final

from limits.client.compact_json import loads
from workers.transport.compression import MAX_BODY, is_plain

JOB: Final = "overnight.job"

#: A task's id: it is in log lines, keys, events and pages.
_ID: Final = re.compile(r"[\w.:-]{1,128}", re.ASCII)

#: What Celery would publish when a task has ended, with the worker's rights.
_FOLLOWERS: Final = ("callbacks", "errbacks", "chain", "chord")

#: The property in which the transport tells how many workers have ended with a message, and after how many it is not
#: given to another.
DEATHS: Final = "overnight_deaths"
MAX_DEATHS: Final = 5

#: The most a header may count.
_MOST: Final = 1 << 31


def unreadable(message: Any, known: Callable[[str], bool]) -> str | None:
    """What is wrong with a message of Celery's protocol 2, in words without its contents; None if nothing is."""
    headers = message.headers
    task = headers.get("task")
    if not isinstance(task, str) or not isinstance(headers.get("id"), str):
        return "its headers name no task and id"
    # Celery's own tasks run others, and publish messages, with the worker's rights.
    if task.startswith("celery.") or not known(task):
        return f"its task {task[:200]!r} is unknown here"
    if message.content_type != "application/json":
        return f"its content type is {str(message.content_type)[:100]!r}, not application/json"
    if not is_plain(message.content_encoding):
        return f"its content encoding is {str(message.content_encoding)[:100]!r}, not utf-8"
    if len(message.body) > MAX_BODY:
        return f"its body has {len(message.body):,} bytes, {MAX_BODY:,} at most"
    if fatal := _fatal(message):
        return fatal
    return _wrong_header(headers, task) or _wrong_body(message, task)


def _fatal(message: Any) -> str | None:
    """Whether it has ended too many workers, as its broker counts."""
    deaths = (message.properties or {}).get(DEATHS)
    if type(deaths) is int and deaths >= MAX_DEATHS:
        return f"{deaths} workers ended while they had it"
    # RabbitMQ counts what workers gave back, too.
    deliveries = message.headers.get("x-delivery-count")
    if type(deliveries) is int and deliveries >= 2 * MAX_DEATHS:
        return f"it was delivered {deliveries} times, and given back or lost"
    return None


def _wrong_header(headers: dict[str, Any], task: str) -> str | None:
    for name in ("id", "root_id", "parent_id", "group", "shadow"):
        value = headers.get(name)
        if value is not None and not (isinstance(value, str) and _ID.fullmatch(value)):
            return f"its header {name} is not 1 to 128 of the characters a-z A-Z 0-9 _ . : -"
    for name in ("shadow", "stamped_headers"):
        if task == JOB and headers.get(name):
            return f"its header {name} is set, which no job follows"
    for name in ("eta", "expires"):
        value = headers.get(name)
        if value is not None and not _is_time(value):
            return f"its header {name} is no time"
    retries = headers.get("retries") or 0
    if type(retries) is not int or not 0 <= retries < _MOST:
        return f"its header retries is no number from 0 to {_MOST - 1:,}"
    limits = headers.get("timelimit")
    if limits is not None and not (isinstance(limits, list) and len(limits) == 2 and all(map(_is_limit, limits))):  # noqa: PLR2004
        return "its header timelimit is not two numbers of seconds, or null"
    return None


def _wrong_body(message: Any, task: str) -> str | None:
    try:
        body = loads(message.body)
    except ValueError:
        return "its body is no JSON"
    match body:
        case [list() as args, dict() as kwargs, dict() as embed]:
            pass
        case _:
            return "its body is not a task's arguments"
    if task == JOB:
        if followers := [name for name in _FOLLOWERS if embed.get(name)]:
            return f"its body asks for {', '.join(followers)}, which no worker runs after a job"
        # Celery need not read it again, nor give a meaning to `__type__` in what was checked as it stands.
        message._decoded_cache = [args, kwargs, {}]  # noqa: SLF001 - as said
    return None


def _is_time(value: Any) -> bool:
    """Whether it is a time as Celery writes it, of a year that can be reckoned with in any time zone."""
    try:
        return datetime.fromisoformat(value).year in range(1970, 9000)
    except (TypeError, ValueError):
        return False


def _is_limit(value: Any) -> bool:
    return value is None or (type(value) in (int, float) and math.isfinite(value) and 0 <= value < _MOST)
