"""A workflow's own check: `check = "module:function"`, a function or coroutine that gets each answer.

    def check(answer):
        Invoice.model_validate_json(answer.text)         # pydantic's ValidationError is a ValueError
        if not answer.text.startswith("{"):
            return "no object"                           # why the answer is invalid

It returns None or True for a valid answer, and False or the reason for an invalid one; ValueError and AssertionError
mean invalid, too. Any other exception is the check's own fault: the answer is `unchecked`, with the exception as its
reason.

A coroutine runs in the worker's loop, and a function in a thread. Python can stop no thread: one that hangs keeps its
thread until the worker ends, and a coroutine that computes without awaiting keeps the whole worker from its other jobs.
"""

import asyncio
import inspect
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final
from weakref import WeakKeyDictionary

import orjson

from tasks.answers import contents, schemas
from tasks.answers.checks import VALID, Checked
from workers.config.settings import Settings, SettingsError
from workers.pool.threads import MAX_THREADS, to_thread
from workers.user_modules import import_error, import_module

log = logging.getLogger(__name__)

#: Seconds that a check may take.
MAX_SECONDS = 10.0

#: Functions that run at once on one event loop. The pool has twice as many threads, so some may hang for ever.
AT_ONCE: Final = MAX_THREADS["checks"] // 2

CheckFunction = Callable[["GivenAnswer"], Any]


@dataclass(frozen=True, slots=True)
class GivenAnswer:
    """What a check gets: the line's request, and the body of its answer."""

    custom_id: str
    url: str
    request: Mapping[str, Any] = field(repr=False)
    body: Mapping[str, Any] = field(repr=False)

    @property
    def text(self) -> str:
        """The answer's text, in any wire format; that of the first choice if there are several."""
        found = contents.of_answer(self.url, self.body)
        return found[0].text if found else ""

    def json(self) -> Any:
        """The text, parsed as JSON. Raises ValueError if it is not JSON, so the answer is invalid."""
        return orjson.loads(self.text)


class Unusable(Exception):  # noqa: N818 - names what happened
    """The configuration names no function that can be a check; the message says why."""


_slots: WeakKeyDictionary[asyncio.AbstractEventLoop, asyncio.Semaphore] = WeakKeyDictionary()

#: The functions that were found, by the name in the configuration.
_functions: dict[str, CheckFunction] = {}


def load(settings: Settings) -> None:
    """Import the checks of all workflows. Raises SettingsError for those that cannot be used."""
    wrong = []
    for name, workflow in settings.workflows.items():
        try:
            if workflow.check is not None:
                _function(workflow.check, settings)
        except Unusable as why:
            wrong.append(f"{settings.file}: workflows.{name}.check: {why}")
    if wrong:
        raise SettingsError(wrong)


def _function(check: str, settings: Settings) -> CheckFunction:
    found = _functions.get(check)
    if found is None:
        found = _functions[check] = _find(check, settings)
    return found


def _find(check: str, settings: Settings) -> CheckFunction:
    module, _, name = check.partition(":")
    try:
        function: Any = getattr(import_module(module, settings), name, None)
    except Exception as exc:  # noqa: BLE001 - a user's module can raise anything
        raise Unusable(f'"{module}" cannot be imported: {import_error(exc)}') from None
    if not callable(function):
        raise Unusable(f'module "{module}" has no function "{name}"')
    try:
        inspect.signature(function).bind(None)
    except (TypeError, ValueError):
        raise Unusable(f'function "{name}" of "{module}" must take one argument, the answer') from None
    return function  # type: ignore[no-any-return]


async def run(check: str, settings: Settings, answer: GivenAnswer) -> Checked:
    """Run a workflow's own check on one answer."""
    try:
        function = _function(check, settings)
    except Unusable as why:
        return Checked("unchecked", schemas.cut(f"the workflow's check cannot be used: {why}"))
    if inspect.iscoroutinefunction(function):
        task = await _in_time(function, answer)
    else:
        slots = _slots.setdefault(asyncio.get_running_loop(), asyncio.Semaphore(AT_ONCE))
        async with slots:  # its time begins when a thread is free
            task = await _in_time(function, answer)
    if not task.done():
        log.warning("check %s took more than %g s; if it is no coroutine, it still runs", check, MAX_SECONDS)
        return Checked("unchecked", f"check {check} took more than {MAX_SECONDS:g} s")
    if task.cancelled():
        return Checked("unchecked", f"check {check} was cancelled by its own code")
    return _result(check, task)


async def _in_time(function: CheckFunction, answer: GivenAnswer) -> "asyncio.Task[Any]":
    """Call a check. Returns its task, which is not done if that took too long; then it is cancelled."""
    task = asyncio.create_task(_call(function, answer))
    try:
        await asyncio.wait({task}, timeout=MAX_SECONDS)
    finally:
        if not task.done():
            task.cancel()
    return task


async def _call(function: CheckFunction, answer: GivenAnswer) -> Any:
    try:
        if inspect.iscoroutinefunction(function):
            return await function(answer)
        found = await to_thread("checks", _called, function, answer)
        return await found if inspect.isawaitable(found) else found
    except (SystemExit, KeyboardInterrupt) as exc:
        raise _Quit(type(exc).__name__) from None  # these would end the worker's loop


class _Quit(Exception):  # noqa: N818 - names what the check did
    """The check tried to end the process."""


def _called(function: CheckFunction, answer: GivenAnswer) -> Any:
    try:
        return function(answer)
    except StopIteration as exc:
        raise RuntimeError("StopIteration") from exc  # no future can hold it


def _result(check: str, task: "asyncio.Task[Any]") -> Checked:
    error = task.exception()
    if isinstance(error, ValueError | AssertionError):
        words = str(error) or type(error).__name__
        return Checked("invalid", schemas.cut(f"check {check}: {words}"))
    if error is not None:
        log.warning("check %s raised %s", check, type(error).__name__)
        return Checked("unchecked", schemas.cut(f"check {check} raised {type(error).__name__}: {error}"))
    found = task.result()
    if found is None or found is True or found == "":
        return VALID
    if found is False or isinstance(found, str):
        return Checked("invalid", schemas.cut(f"check {check}: {found or 'it returned False'}"))
    words = f"check {check} returned {type(found).__name__}, and not None, True, False or words"
    return Checked("unchecked", words)
