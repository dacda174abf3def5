"""One call and one step of an agent: made once, and written into the journal before the agent goes on.

A call takes a plain job's way, retries and 429s included; what would put a plain job back into its queue suspends
the agent. Its money is settled in the step that writes its entry.
"""

import inspect
import time
from collections.abc import Callable
from contextvars import ContextVar
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

import orjson

from limits.client.compact_json import loads
from tasks.agents.errors import Halted, StepFailed, Suspended
from tasks.agents.journal import Entry
from tasks.agents.json_values import Unwritable, cut, decode, encode
from tasks.jobs.job import Line
from tasks.jobs.spending_cap import OverCap
from tasks.jobs.state import JobState
from tasks.jobs.store import Outcome
from workers.figures import dollars
from workers.pool.threads import to_thread
from workers.request import Snooze

if TYPE_CHECKING:
    from tasks.agents.run import Run

#: Errors of a call that end the whole job, since its other calls would meet them, too.
_FINAL: Final = frozenset({"batch_expired", "deadline_exceeded", "max_usd"})

#: Whether a step runs here: it is not run in a replay, so no call may hang on it.
in_step: ContextVar[bool] = ContextVar("overnight_in_step", default=False)


async def call(run: "Run", url: str, body: dict[str, Any]) -> dict[str, Any]:
    """The result line of a call: an answer, or a failure."""
    run.count_call()
    name = str(body.get("model", ""))
    entry = await run.once("call", name, [url, body], lambda *place: _call(run, name, url, body, *place))
    line: dict[str, Any] = loads(run.journal.body(entry))
    return line


async def _call(run: "Run", name: str, url: str, body: dict[str, Any], position: str, asked: str) -> Entry:
    state = run.states.setdefault(position, JobState())
    job = replace(run.job, line=Line(run.job.line.custom_id, url, body), call=position, spending_cap=run.spending_cap)
    began = time.monotonic()
    try:
        outcome = await run.attempts(run.runtime, job, state)
    except Snooze as snooze:
        if position not in run.journal.given_up:
            raise Suspended(snooze.seconds, snooze.reason) from None
        words = f"the agent gave this call up before it had to wait: {snooze.reason}"
        outcome = Outcome.error(job, "given_up", words, cost=state.cost, attempts=state.attempts)
    except OverCap as dear:
        words = (
            f"a call could cost {dollars(dear.amount)}, and of the max_usd of its workflow, "
            f"{dollars(dear.limit)}, only {dollars(dear.left)} is left"
        )
        outcome = Outcome.error(job, "max_usd", words, cost=state.cost, attempts=state.attempts)
    told = orjson.loads(outcome.line)
    report, error = told["overnight"], told["error"] or {}
    entry = Entry(
        kind="call",
        name=name,
        digest=asked,
        round=run.job.round,
        ok=outcome.ok,
        at=time.time(),
        seconds=round(time.monotonic() - began, 3),
        cost=outcome.cost,
        target=f"{report['provider']}/{report['model']}" if report["provider"] else "",
        attempts=report["attempts"],
        input_tokens=outcome.input_tokens,
        output_tokens=outcome.output_tokens,
        code=error.get("code") or "",
    )
    try:
        entry = await run.write(position, entry, outcome.line, settlement=outcome.settlement, state=state)
    finally:
        run.runtime.settled(outcome.reservation)
    if entry.code in _FINAL:
        raise Halted(entry.code, error["message"])
    return entry


async def step(
    run: "Run", name: str, function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Any:
    """What the function has returned, as JSON gives it back; StepFailed where it raised."""
    if not isinstance(name, str) or not name:
        raise TypeError("a step needs a name: await llm.step('lookup', function, …)")
    entry = await run.once(
        "step", name, [args, kwargs], lambda *place: _step(run, name, function, args, kwargs, *place)
    )
    told = decode(run.journal.body(entry))
    if entry.ok:
        return told
    raise StepFailed(name, told["kind"], told["message"])


async def _step(
    run: "Run",
    name: str,
    function: Callable[..., Any],
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    position: str,
    asked: str,
) -> Entry:
    in_step.set(True)
    began = time.monotonic()
    failure: BaseException | None = None
    body = b""
    try:
        body = encode(await _result(function, args, kwargs))
    except Unwritable as exc:
        failure = TypeError(f"it returned what JSON cannot hold: {exc}")
    except (Exception, SystemExit, KeyboardInterrupt) as exc:  # noqa: BLE001 - a step of the user's can raise anything
        failure = exc  # the last two would end the worker's loop if they were let through
    if failure is not None:
        body = encode({"kind": type(failure).__name__, "message": cut(str(failure))})
    entry = Entry(
        kind="step",
        name=name,
        digest=asked,
        round=run.job.round,
        ok=failure is None,
        at=time.time(),
        seconds=round(time.monotonic() - began, 3),
        code=type(failure).__name__ if failure is not None else "",
    )
    return await run.write(position, entry, body)


async def _result(function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """What a function returns: a coroutine's on the loop, any other's in a thread, where it may block."""
    if inspect.iscoroutinefunction(function):
        return await function(*args, **kwargs)
    found = await to_thread("steps", _stepped, function, args, kwargs)
    return await found if inspect.isawaitable(found) else found


def _stepped(function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """What the function returns. Its StopIteration, which no future can hold, becomes what a coroutine makes of it."""
    try:
        return function(*args, **kwargs)
    except StopIteration as exc:
        raise RuntimeError("the step raised StopIteration") from exc
