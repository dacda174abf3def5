"""How an attempt's call ends: what it settles, and the result line if it ends its job.

Pure functions of the attempt and its answer or error. A settlement closes the attempt's reservation. An `Outcome`
contains one, so that the job's result and the money of its last call are recorded in one step.
"""

import time
from collections.abc import Mapping
from dataclasses import replace
from typing import Final

from limits.bucket import MINUTES
from limits.budget import NANO
from limits.client.compact_json import loads
from limits.counting import UNSENT, Estimate, Usage, admission, refused, settlement
from limits.encoding import settlement_json
from limits.reservation import Level, Settlement, Throttle
from limits.reservation import Outcome as CircuitOutcome
from tasks.answers.checks import Checked
from tasks.jobs import job as jobs
from tasks.jobs import retry
from tasks.jobs.attempt import Attempt
from tasks.jobs.store import Ceiling, Outcome
from workers.models.prices import Rates
from workers.models.routing import Route
from workers.models.tiers import FLEX
from workers.providers.answer import Answer
from workers.providers.bodies import output_ceiling
from workers.providers.errors import CallFailed, ProviderError, Throttled, Unavailable
from workers.providers.failures import SLOW_DOWN
from workers.providers.headers import RateLimits
from workers.providers.truncation import met_ceiling

#: Seconds: the longest pause of an account's quota after a 429. A longer wait may be for a limit of one model only,
#: and the account's other models would wait for it, too.
ACCOUNT_PAUSE: Final = 5.0

#: What a failure means for the target's circuit.
_CIRCUIT_OUTCOMES: Final[Mapping[str, CircuitOutcome]] = {"failure": "failure", "success": "ok", "none": "neutral"}


def used(attempt: Attempt, answer: Answer) -> Usage:
    """The tokens of an answer: as reported, or as estimated if it reports none."""
    return answer.usage or Usage(attempt.estimate.input, output=attempt.estimate.output or 0)


def of_answer(attempt: Attempt, answer: Answer) -> Settlement:
    """The settlement of an answered call."""
    route, estimate, usage = attempt.route, attempt.estimate, used(attempt, answer)
    costs = settlement(route.profile, estimate, usage) if answer.usage else admission(route.profile, estimate)
    amount = _presumed(attempt)
    columns = {"calls": 1, "input_tokens": usage.input, "output_tokens": usage.output}
    rates = route.billed_at(answer.tier)
    if answer.usage is not None and rates is not None:
        amount = rates.cost(answer.usage, media=estimate.media)
    columns |= _cached(usage, rates, estimate)
    if attempt.is_flex:
        live = route.rates.cost(usage, media=estimate.media) if route.rates else amount
        columns |= {"flex_calls": 1, "flex_saved": max(0, live - amount) if answer.usage else 0}
    return Settlement(
        amount=amount,
        costs=route.charged(costs),
        presumed=answer.usage is None,
        columns=columns,
        levels=levels(route, answer.limits, answered=True),
        circuit=attempt.ask.circuit,
    )


def _cached(usage: Usage, rates: Rates | None, estimate: Estimate) -> dict[str, int]:
    """The ledger's columns of the prompt cache."""
    if not usage.cached and not usage.cache_write:
        return {}
    saved = rates.cache_saving(usage, media=estimate.media) if rates is not None else 0
    return {"cached_tokens": usage.cached, "cache_saved": saved}


def of_failure(attempt: Attempt, error: ProviderError) -> Settlement:
    """The settlement of a call without an answer. If the failure reports a usage, that is the bill.

    A failure without a status that is not `billed` was never sent: quota and money are given back in full.
    """
    route, estimate, usage = attempt.route, attempt.estimate, error.usage
    columns = {"calls": 1, "throttled": 1} if isinstance(error, Throttled) else {"calls": 1, "failed_calls": 1}
    amount = _presumed(attempt) if error.billed else 0
    if usage is not None:
        amount = route.rates.cost(usage, media=estimate.media) if route.rates else 0
        costs = settlement(route.profile, estimate, usage)
        columns |= {"input_tokens": usage.input, "output_tokens": usage.output}
    elif error.status is not None:
        costs = refused(route.profile, estimate)
    else:
        costs = admission(route.profile, estimate) if error.billed else UNSENT
    return Settlement(
        amount=amount,
        costs=route.charged(costs),
        outcome="neutral" if error.only_for else _CIRCUIT_OUTCOMES[error.circuit],
        failed=True,
        presumed=error.billed and usage is None,
        columns=columns,
        levels=levels(route, error.limits) if error.limits and not error.only_for else {},
        throttles=throttles(route, error),
        circuit=attempt.ask.circuit,
    )


def throttles(route: Route, error: ProviderError) -> tuple[Throttle, ...]:
    """The buckets that the failure pauses."""
    if error.only_for == "tier" and route.tier == FLEX:
        return (Throttle(route.buckets[-1][0], error.retry_after or None, overload=True),)
    if error.only_for:
        return ()
    overload = isinstance(error, Unavailable)
    if overload and error.code == SLOW_DOWN and not error.retry_after:
        overload = False  # OpenAI's 503 about the caller's own rate means the same as a 429
    elif not isinstance(error, Throttled) and not (overload and error.retry_after):
        return ()
    # A Retry-After of zero counts as none: the refused call was sent at once, too.
    wait = error.retry_after or None
    (model, own), *accounts = route.buckets
    named = error.dimension
    if named in MINUTES and not any(named in quota.limits for _, quota in route.buckets):
        named = ""  # no bucket counts this dimension, and one of them has to learn from the 429
    limited = any(quota.rpm is not None for _, quota in accounts)
    found = [Throttle(model, wait, named, overload=overload, limited=limited)]
    for bucket, quota in accounts:
        # If the 429 names no dimension, assume the account's limit, unless the model's requests are limited, too.
        # It may also be an unknown limit of the model, so the account pauses only briefly.
        met = named in quota.limits and named not in own.limits if named else quota.paces and own.rpm is None
        if met and not overload:
            found.append(Throttle(bucket, wait, named, longest=ACCOUNT_PAUSE))
    return tuple(found)


def _presumed(attempt: Attempt) -> int:
    """The most that may have been billed: a provider bills a client that has hung up."""
    return attempt.route.rates.ceiling(attempt.estimate) if attempt.route.rates else 0


def levels(route: Route, limits: RateLimits, *, answered: bool = False) -> dict[str, dict[str, Level]]:
    """The limits that headers report, by bucket and dimension.

    They go to the model's bucket, or to the account's if that has exactly the reported limit and the model has none.
    An answer's limit whose window is a guess is dropped unless a limit is configured: it would apply from then on.
    """
    found: dict[str, dict[str, Level]] = {}
    for name, level in limits.items():
        (bucket, own), *accounts = route.buckets
        if name not in own.limits:
            same = (each for each, quota in accounts if name in quota.limits and quota.limits[name] == level.limit)
            bucket = next(same, bucket)
        unsure = answered and level.guessed and name not in own.limits
        limit = None if unsure else level.limit
        found.setdefault(bucket, {})[str(name)] = Level(limit, level.remaining, level.reset)
    return found


def answered(attempt: Attempt, answer: Answer, owner: str, checked: Checked | None = None) -> Outcome:
    """The outcome of a job with an answer; a failure if that cannot be encoded.

    `owner`: of the reservation. `checked`: the result of the answer's check, None if it was not checked.
    """
    usage = used(attempt, answer)
    closing = of_answer(attempt, answer)
    cost = attempt.state.cost + closing.amount
    ceiling = _cut_off_by(attempt, answer)
    report = _report(attempt, cost, answer.seconds)
    if ceiling != "none":
        report["cut_off_by"] = ceiling
    if checked is not None:
        report["checks"] = checked.shown()
    line = jobs.result_line(
        attempt.job.result_id,
        attempt.job.line.custom_id,
        response={"status_code": answer.status, "request_id": answer.request_id, "body": answer.body},
        error=None,
        report=report,
    )
    try:
        written = jobs.encode(line)
    except TypeError:
        return _unwritable(attempt, answer, owner)
    return Outcome(
        ok=True,
        line=written,
        cost=cost,
        input_tokens=usage.input,
        output_tokens=usage.output,
        cached_tokens=usage.cached,
        reasoning_tokens=usage.reasoning,
        settlement=settlement_json(attempt.ask.id, owner, closing),
        reservation=attempt.ask.id,
        ceiling=ceiling,
        check=checked.result if checked is not None else "",
    )


def not_valid(outcome: Outcome, checked: Checked) -> Outcome:
    """The outcome of a job that fails with its answer, because that is not valid. Its line contains the answer, too."""
    line = loads(outcome.line)
    words = f"the answer is {checked.result}: overnight.checks of this line says why"
    line["error"] = jobs.error_object("invalid_answer", words)
    return replace(outcome, ok=False, line=jobs.encode(line), ceiling="none")  # a retry may bring a whole answer


def _cut_off_by(attempt: Attempt, answer: Answer) -> Ceiling:
    """Whose ceiling cut the answer off, if one did."""
    line = attempt.job.line
    if not met_ceiling(line.url, answer.body):
        return "none"
    set_here = output_ceiling(line.url, line.body) is None and output_ceiling(line.url, attempt.body) is not None
    return "default" if set_here else "own"


def _unwritable(attempt: Attempt, answer: Answer, owner: str) -> Outcome:
    """The outcome of an answer that is nested too deeply for the JSON encoder. It is paid, as another one would be."""
    error = CallFailed(
        "the answer is nested too deeply to be written down; it is paid for, and the job is not tried again",
        status=answer.status,
        code="broken_body",
        limits=answer.limits,
        request_id=answer.request_id,
        billed=True,
        usage=answer.usage,
    )
    return failed(attempt, error, retry.Fail(error.code, error.message, error.status), owner)


def failed(attempt: Attempt, error: ProviderError, fail: retry.Fail, owner: str) -> Outcome:
    """The outcome of a job whose last call failed. `owner`: of the reservation."""
    closing = of_failure(attempt, error)
    cost = attempt.state.cost + closing.amount
    line = _failure(attempt, error, fail, cost)
    settled = settlement_json(attempt.ask.id, owner, closing)
    return Outcome(ok=False, line=line, cost=cost, settlement=settled, reservation=attempt.ask.id)


def gave_up(attempt: Attempt, error: ProviderError, fail: retry.Fail) -> Outcome:
    """The outcome of a job that is not tried again after an attempt that is settled."""
    cost = attempt.state.cost
    return Outcome(ok=False, line=_failure(attempt, error, fail, cost), cost=cost)


def _failure(attempt: Attempt, error: ProviderError, fail: retry.Fail, cost: int) -> bytes:
    """The result line of a job whose last call brought no answer."""
    response = None
    if error.status is not None:
        response = {"status_code": error.status, "request_id": error.request_id, "body": None}
    line = jobs.result_line(
        attempt.job.result_id,
        attempt.job.line.custom_id,
        response=response,
        error=jobs.error_object(fail.code, fail.message),
        report=_report(attempt, cost, time.monotonic() - attempt.sent_at),
    )
    return jobs.encode(line)


def _report(attempt: Attempt, cost: int, seconds: float) -> dict[str, object]:
    return {
        "provider": attempt.route.provider,
        "model": attempt.route.model,
        "lane": attempt.lane,
        "attempts": attempt.number,
        "cost_usd": cost / NANO,
        "seconds": round(seconds, 3),
    }
