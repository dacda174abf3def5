"""One call and one step of an agent: made once, and written to the journal before the agent goes on.

A call is made like that of a plain job, with the same retries. What would snooze a plain job suspends the agent. The
script that writes a call's entry settles its reservation too.
"""

import inspect
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Final

import orjson

from limits.client.compact_json import loads
from tasks.agents.errors import Halted, StepFailed, Suspended
from tasks.agents.journal_record import Entry
from tasks.agents.json_values import Unwritable, cut, decode, encode
from tasks.agents.run import Run, in_step
from tasks.jobs.delivery import Delivery
from tasks.jobs.job import Line
from tasks.jobs.spending_cap import OverCap
from tasks.jobs.state import JobState
from tasks.jobs.store import Outcome
from workers.figures import dollars
from workers.pool.threads import to_thread
from workers.request import Snooze

#: Errors of a call that end the whole job, because its other calls would fail with them too.
_FINAL: Final = frozenset({"batch_expired", "deadline_exceeded", "max_usd"})


async def call(run: Run, url: str, body: dict[str, Any]) -> dict[str, Any]:
    """Make a call, or find it in the journal; its result line, with an answer or an error."""
    run.count_call()
    name = str(body.get("model", ""))
    entry = await run.once("call", name, [url, body], lambda *at: _call(run, name, url, body, *at))
    line: dict[str, Any] = loads(run.journal.body(entry))
    return line


async def _call(run: Run, name: str, url: str, body: dict[str, Any], position: str, asked: str) -> Entry:
    state = run.states.setdefault(position, JobState())
    began = time.monotonic()
    outcome = await _outcome(run, url, body, position, state)
    entry = _entry(run, name, asked, outcome, time.monotonic() - began)
    try:
        entry = await run.write(position, entry, outcome.line, settlement=outcome.settlement, state=state)
    finally:
        run.runtime.settled(outcome.reservation)
    if entry.code in _FINAL:
        raise Halted(entry.code, orjson.loads(outcome.line)["error"]["message"])
    return entry


async def _outcome(run: Run, url: str, body: dict[str, Any], position: str, state: JobState) -> Outcome:
    """Make the call; Suspended if it must wait."""
    job = replace(run.job, line=Line(run.job.line.custom_id, url, body), call=position, spending_cap=run.spending_cap)
    try:
        return await run.attempts(Delivery(run.runtime, job, state))
    except Snooze as snooze:
        if position not in run.journal.given_up:
            raise Suspended(snooze.seconds, snooze.reason) from None
        message = f"the agent gave this call up before it had to wait: {snooze.reason}"
        return Outcome.error(job, "given_up", message, cost=state.cost, attempts=state.attempts)
    except OverCap as exc:
        message = (
            f"a call could cost {dollars(exc.amount)}, and of the max_usd of its workflow, "
            f"{dollars(exc.limit)}, only {dollars(exc.left)} is left"
        )
        return Outcome.error(job, "max_usd", message, cost=state.cost, attempts=state.attempts)


def _entry(run: Run, name: str, asked: str, outcome: Outcome, seconds: float) -> Entry:
    line = orjson.loads(outcome.line)
    report, error = line["overnight"], line["error"] or {}
    return Entry(
        kind="call",
        name=name,
        digest=asked,
        round=run.job.round,
        ok=outcome.ok,
        at=time.time(),
        seconds=round(seconds, 3),
        cost=outcome.cost,
        target=f"{report['provider']}/{report['model']}" if report["provider"] else "",
        attempts=report["attempts"],
        input_tokens=outcome.input_tokens,
        output_tokens=outcome.output_tokens,
        code=error.get("code") or "",
    )


async def step(run: Run, name: str, function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Run a step, or find it in the journal; what it returned, read back from JSON. StepFailed if it raised."""
    if not isinstance(name, str) or not name:
        raise TypeError("a step needs a name: await llm.step('lookup', function, …)")
    entry = await run.once("step", name, [args, kwargs], lambda *at: _step(run, name, function, args, kwargs, *at))
    found = decode(run.journal.body(entry))
    if entry.ok:
        return found
    raise StepFailed(name, found["kind"], found["message"])


async def _step(
    run: Run,
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
    except (Exception, SystemExit, KeyboardInterrupt) as exc:  # noqa: BLE001 - a user's function can raise anything
        failure = exc  # the last two would end the worker's loop
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
    """What a function returns: a coroutine runs on the loop, any other function in a thread, so it may block."""
    if inspect.iscoroutinefunction(function):
        return await function(*args, **kwargs)
    found = await to_thread("steps", _stepped, function, args, kwargs)
    return await found if inspect.isawaitable(found) else found


def _stepped(function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Call a function; StopIteration becomes RuntimeError, as in a coroutine, because no future can hold it."""
    try:
        return function(*args, **kwargs)
    except StopIteration as exc:
        raise RuntimeError("the step raised StopIteration") from exc
