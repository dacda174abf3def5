"""What a worker checks in a message before Celery acts on it: it trusts nothing unchecked.

Anyone who can reach the queue is a producer. Celery follows headers and the third part of the body, which could name
another workflow, publish into other queues, or block a slot of the pool for ever.
"""

import math
import re
from collections.abc import Callable
from datetime import datetime
from typing import Any, Final

from limits.client.compact_json import loads
from workers.transport.compression import MAX_BODY, is_plain

#: The task that runs a job.
JOB: Final = "overnight.job"

#: A task's id, which appears in log lines, keys, events and pages.
_ID: Final = re.compile(r"[\w.:-]{1,128}", re.ASCII)

#: What Celery would publish after a task, with the worker's rights.
_FOLLOWERS: Final = ("callbacks", "errbacks", "chain", "chord")

#: The property that counts the workers that died while they had the message; set by the transport.
DEATHS: Final = "overnight_deaths"

#: Deaths after which the message is not delivered again.
MAX_DEATHS: Final = 5

#: One more than the largest number in a header.
_MOST: Final = 1 << 31


def unreadable(message: Any, known: Callable[[str], bool]) -> str | None:
    """What is wrong with a message of Celery's protocol 2, without its contents; None if it can be run."""
    headers = message.headers
    task = headers.get("task")
    if not isinstance(task, str) or not isinstance(headers.get("id"), str):
        return "its headers name no task and id"
    # Celery's own tasks run others and publish messages with the worker's rights.
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
    """What is wrong if the message has killed too many workers, by its broker's count; else None."""
    deaths = (message.properties or {}).get(DEATHS)
    if type(deaths) is int and deaths >= MAX_DEATHS:
        return f"{deaths} workers ended while they had it"
    # RabbitMQ also counts deliveries that workers gave back.
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
        # Celery must not parse it again, nor interpret `__type__` in a body that was checked as plain JSON.
        message._decoded_cache = [args, kwargs, {}]  # noqa: SLF001 - kombu has no public name for it
    return None


def _is_time(value: Any) -> bool:
    """Whether it is a time as Celery writes it, in a year that any time zone can convert."""
    try:
        return datetime.fromisoformat(value).year in range(1970, 9000)
    except (TypeError, ValueError):
        return False


def _is_limit(value: Any) -> bool:
    return value is None or (type(value) in (int, float) and math.isfinite(value) and 0 <= value < _MOST)
