"""What a call costs in each dimension of a quota: when it is admitted, and when its usage is known.

Providers count the same call differently. Some charge `max_tokens` when a request arrives and give nothing back, others
count what was generated. A `Profile` is one provider's rule as data (workers/providers/counting_profiles.py has them
all). `admission`, `settlement`, `refused` and `UNSENT` turn it into whole units of each dimension. This is arithmetic
on integers: no clock, no I/O.

A settlement can be above what was reserved. That is debt, and later admissions wait for it. It is below only if the
provider gives unused tokens back.
"""

from dataclasses import dataclass
from typing import Literal, NamedTuple

UNKNOWN_OUTPUT = 1_024
"""Output tokens reserved if the provider counts what is generated and the model has not answered yet (our choice)."""


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens of one call, as the provider reported them afterwards.

    - `input`: all input tokens.
    - `cached`, `cache_write`: the parts of it that were read from and written to the provider's prompt cache.
    - `cache_write_1h`: the part of `cache_write` that is kept for an hour, which costs more.
    - `output`: all generated tokens; `reasoning` is the part of it that the provider reports as such.
    """

    input: int = 0
    cached: int = 0
    cache_write: int = 0
    output: int = 0
    cache_write_1h: int = 0
    reasoning: int = 0


@dataclass(frozen=True, slots=True)
class Estimate:
    """Tokens of one call before it is made.

    - `input`: expected, and taken from the quota.
    - `input_ceiling`, `output_ceiling`: never exceeded, and held in budgets. `output_ceiling` is the model's maximum if
      the request states none.
    - `max_tokens`: what the request states, None if nothing. Like `output_ceiling` it covers all answers of the request
      (`n`, `best_of`).
    - `output`: expected generated tokens, None if the model has not answered yet.
    - `counted`: `input` before it was corrected by what the model really counts, 0 if nothing can be learned from it.
    - `media`: the prompt contains more than text, for which some models charge more.
    """

    input: int
    input_ceiling: int
    output_ceiling: int
    max_tokens: int | None = None
    requests: int = 1
    output: int | None = None
    counted: int = 0
    media: bool = False


class Costs(NamedTuple):
    """Whole units of each dimension: requests for `rpm` and `rpd`, tokens for the others."""

    rpm: int = 0
    tpm: int = 0
    itpm: int = 0
    otpm: int = 0
    rpd: int = 0
    tpd: int = 0


UNSENT = Costs()
"""A call that was not sent: everything that was reserved for it is given back."""


@dataclass(frozen=True, slots=True)
class Profile:
    """How one provider counts.

    - `tokens`: what `tpm` and `tpd` count: the larger of input and output, their sum, or only the input.
    - `reserves`: the output that is charged when a request arrives.
        "stated": its `max_tokens`. Without one nothing, or a forecast if the provider refunds.
        "ceiling": its `max_tokens`, or the model's maximum.
        "expected": nothing. The provider counts what is generated, so we reserve a forecast.
    - `refunds`: unused tokens come back when the call ends.
    - `cached`: tokens that were read from the prompt cache count when the call ends.
    - `burn`: tokens of quota for each generated token.
    """

    name: str
    tokens: Literal["larger", "sum", "input"]
    reserves: Literal["stated", "ceiling", "expected"]
    refunds: bool
    cached: bool = True
    burn: int = 1
    source: str = ""


def admission(profile: Profile, estimate: Estimate) -> Costs:
    """What to reserve before the call.

    Also what stays charged if no answer came (a timeout, a lost connection): the provider may have counted the call.
    """
    # Without the burn rate, which providers only apply to what was generated.
    return _costs(profile, estimate.requests, estimate.input, _reserved_output(profile, estimate))


def certain(profile: Profile, estimate: Estimate) -> Costs:
    """What the call takes in any case: as `admission`, but without an output that is only a forecast."""
    return _costs(profile, estimate.requests, estimate.input, _charged_output(profile, estimate) or 0)


def settlement(profile: Profile, estimate: Estimate, usage: Usage) -> Costs:
    """What the call cost, by the tokens that the provider reported.

    Without refunds that is never less than what was reserved. A call that turned out larger costs its real size.
    """
    taken = usage.input if profile.cached else max(usage.input - usage.cached, 0)
    true = _costs(profile, estimate.requests, taken, usage.output * profile.burn)
    if profile.refunds:
        return true
    return Costs(*map(max, true, admission(profile, estimate)))


def refused(profile: Profile, estimate: Estimate) -> Costs:
    """What the call cost if the provider answered with an error and reported no usage.

    The request counts at every provider: one documents that unsuccessful ones do, and none documents the opposite.
    Tokens come back if unused ones do, because nothing was generated.
    """
    if profile.refunds:
        return Costs(rpm=estimate.requests, rpd=estimate.requests)
    return admission(profile, estimate)


def _reserved_output(profile: Profile, estimate: Estimate) -> int:
    charged = _charged_output(profile, estimate)
    if charged is not None:
        return charged
    forecast = UNKNOWN_OUTPUT if estimate.output is None else estimate.output
    return min(forecast, estimate.output_ceiling)


def _charged_output(profile: Profile, estimate: Estimate) -> int | None:
    """The output that the provider charges on arrival; None if there is only a forecast."""
    if profile.reserves == "expected":
        return None
    if estimate.max_tokens is not None:
        return estimate.max_tokens
    if profile.reserves == "ceiling":
        return estimate.output_ceiling
    return None if profile.refunds else 0


def _costs(profile: Profile, requests: int, taken: int, generated: int) -> Costs:
    if profile.tokens == "larger":
        tokens = max(taken, generated)
    elif profile.tokens == "sum":
        tokens = taken + generated
    else:
        tokens = taken
    return Costs(requests, tokens, taken, generated, requests, tokens)
