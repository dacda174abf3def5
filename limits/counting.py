"""What a call costs in each dimension of a quota: when it is admitted, and once its usage is known.

Providers count the same call differently: some charge `max_tokens` when a request arrives and give nothing
back, others count what was generated. A `Profile` holds one provider's rule as data; `admission`,
`settlement`, `refused` and `UNSENT` turn it into whole units a dimension. All of it is arithmetic on
integers: no clock, no I/O.

A settlement may be above what was reserved: that is debt, which later admissions wait for. It is below it
only where the provider gives unused tokens back.
"""

from dataclasses import dataclass
from typing import Literal, NamedTuple

#: Output tokens reserved for a call of which nothing is known yet, where the provider counts what is
#: generated: our choice. The first settlements of a model replace it by what its answers really have.
UNKNOWN_OUTPUT = 1_024


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens of one call, as the provider reported them afterwards.

    `input` counts all input tokens; `cached` and `cache_write` are the parts of it that were read from and
    written to the provider's prompt cache, and `cache_write_1h` is the part of `cache_write` that is kept for
    an hour, which costs more. `output` counts all generated tokens, reasoning included.
    """

    input: int = 0
    cached: int = 0
    cache_write: int = 0
    output: int = 0
    cache_write_1h: int = 0


@dataclass(frozen=True, slots=True)
class Estimate:
    """Tokens of one call before it is made.

    `input` is what is expected and paces the quota; `input_ceiling` and `output_ceiling` are never exceeded
    and are what a budget holds. `max_tokens` is what the request itself says, None if it says nothing; then
    `output_ceiling` is the model's maximum. Both cover every answer asked for (`n`, `best_of`). `output` is
    the expected number of generated tokens, None where no answer of the model has been seen. `counted` is
    `input` before it was corrected by what the model really counts, 0 where nothing can be learnt from it.
    `media` says that the prompt holds more than text, which some models charge more for.
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


#: A call that was never sent: everything that was reserved for it goes back.
UNSENT = Costs()


@dataclass(frozen=True, slots=True)
class Profile:
    """How one provider counts.

    `tokens` is what `tpm` and `tpd` count of a call: the larger of input and output, their sum, or the input
    alone. `reserves` is the output that is charged on arrival: `stated` (the request's `max_tokens`; without
    it nothing, or a forecast where output counts in the end), `ceiling` (the model's maximum without it) or
    `expected` (the provider counts what is generated, so a forecast is reserved). `refunds` says whether
    unused tokens come back when the call ends, `cached` whether tokens read from the prompt cache count then,
    `burn` how many tokens of quota one generated token takes.
    """

    name: str
    tokens: Literal["larger", "sum", "input"]
    reserves: Literal["stated", "ceiling", "expected"]
    refunds: bool
    cached: bool = True
    burn: int = 1
    source: str = ""


def admission(profile: Profile, estimate: Estimate) -> Costs:
    """What to reserve before the call. Also what to leave charged when no answer came (a timeout, a lost
    connection): the provider may well have counted it.
    """
    # A provider deducts its reservation without the burn rate, which applies to what was generated.
    return _costs(profile, estimate.requests, estimate.input, _reserved_output(profile, estimate))


def certain(profile: Profile, estimate: Estimate) -> Costs:
    """What the call takes in any case: as `admission`, but without the answer where that is only a forecast."""
    return _costs(profile, estimate.requests, estimate.input, _charged_output(profile, estimate) or 0)


def settlement(profile: Profile, estimate: Estimate, usage: Usage) -> Costs:
    """What the call has cost, now that the provider has reported its tokens.

    Where nothing is refunded, that is never less than what was reserved; a call that turned out larger than
    its request had said is counted as it turned out.
    """
    taken = usage.input if profile.cached else max(usage.input - usage.cached, 0)
    true = _costs(profile, estimate.requests, taken, usage.output * profile.burn)
    if profile.refunds:
        return true
    return Costs(*map(max, true, admission(profile, estimate)))


def refused(profile: Profile, estimate: Estimate) -> Costs:
    """What the call has cost when the provider answered with an error and no usage.

    The request counts everywhere: OpenAI says that unsuccessful ones do, and of the others none says that
    they do not. Tokens come back where unused ones do, since nothing was generated.
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
    """The output that the provider charges on arrival; None where only a forecast can stand for it."""
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
