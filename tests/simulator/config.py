"""What can be set, all of it JSON. An unknown field is an error: a test with a typo proves nothing."""

from dataclasses import dataclass, field, fields
from typing import Any, TypeVar

from tests.simulator.prompt_cache import CacheRules

_T = TypeVar("_T")

COUNTING = ("linear", "per-second", "fixed", "sliding")
TOKEN_RULES = ("max", "sum", "input", "actual", "anthropic")
RETRY_AFTER_FORMS = ("seconds", "fraction", "date", "ms", "gemini", "text", "azure-text", "absent")
MODES = (
    *("400", "401", "402", "403", "404", "408", "409", "413", "422", "429"),
    *("498", "500", "502", "503", "504", "529"),
    *("insufficient_quota", "spend_cap", "too_large", "echo_key", "no_message", "integer_code", "redirect"),
    *("hang", "reset", "disconnect", "half", "drip", "empty", "html", "html502", "garbage", "not_object"),
    *("error_in_200", "sse_error", "no_usage", "huge", "huge_told"),
    *("usage_32_bits", "usage_64_bits", "told_failure", "told_failure_32_bits", "deep"),
)

FLAWS = ("invalid", "truncated", "refused", "filtered", "empty")


@dataclass(slots=True)
class Model:
    """The quota of a model for each key, and its prices. None and 0 mean unlimited.

    `counting` is how the dimensions of a minute are counted: `linear` is a bucket that refills continuously
    and holds `burst_s` seconds of the rate; `per-second` allows a sixtieth each second; `fixed` is a minute
    by the clock; `sliding` the last 60 s. `tokens` is what a request costs: `max` of its ceiling and an
    estimate (OpenAI), their `sum` (Azure), the `input` alone (Gemini), what it will `actual`ly use, or
    `anthropic`: input at the start and output as it is made. `strict_errors` counts refused requests too.
    Prices of the prompt cache that are None are those of other input.
    """

    rpm: float | None = None
    tpm: float | None = None
    itpm: float | None = None
    otpm: float | None = None
    concurrency: int = 0
    counting: str = "linear"
    burst_s: float = 60.0
    tokens: str = "max"
    strict_errors: bool = False
    input_usd_per_mtok: float = 1.0
    output_usd_per_mtok: float = 2.0
    cached_usd_per_mtok: float | None = None
    cache_write_usd_per_mtok: float | None = None


@dataclass(slots=True)
class Failure:
    """A way to fail, for the requests that meet all of its conditions.

    Those are: `probability`; the `model`; a `job` marker that contains the text; the `key`'s index; the service
    `tier`; arrival from `start` until `end` seconds after this was configured; not among the first `after` requests
    that meet the rest; at most `times` times; every `every`th of them. `seconds` is how long a hang, drip or delay
    takes, `retry_after` a header to send with an error.
    """

    mode: str
    probability: float = 1.0
    model: str | None = None
    job: str | None = None
    key: int | None = None
    tier: str | None = None
    start: float = 0.0
    end: float | None = None
    after: int = 0
    times: int | None = None
    every: int = 1
    seconds: float = 3600.0
    retry_after: str | None = None


@dataclass(slots=True)
class Flaw:
    """Whole answers with status 200 that are not what was asked for: those of `part` of all jobs (flaws.py).

    Only answers of `model`, if one is set, only the first `answers` of a job (0: all), and only if the request's
    ceiling is below `ceiling` tokens (0: whatever it is).
    """

    kind: str
    part: float
    model: str | None = None
    answers: int = 0
    ceiling: int = 0


@dataclass(slots=True)
class Config:
    """The whole simulator.

    `models` maps names to quotas; `*` is for every other. `keys` are those that are accepted (none: every key), each
    with a quota of its own unless `shared_quota`. `latency` and `answer_tokens` are a number, or a pair from which the
    request's own hash picks. Each answer says `cached_tokens`, unless there is a `prompt_cache`. With `call_tools`, a
    chat's first tool is called before anything is said. `headers` sends rate headers. `retry_after` is
    the form in which a 429 states the wait. A request is `early` if it comes before a wait that was announced for its
    key and model has passed, and later than `grace` seconds after the announcement, since until then the two may have
    crossed on the way.
    """

    models: dict[str, Model] = field(default_factory=lambda: {"*": Model()})
    keys: list[str] = field(default_factory=list)
    shared_quota: bool = False
    latency: float | list[float] = 0.0
    answer_tokens: int | list[int] = 8
    cached_tokens: int = 0
    prompt_cache: CacheRules | None = None
    call_tools: bool = False
    headers: bool = True
    retry_after: str = "seconds"
    batch_delay: float | list[float] = 0.5
    batch_times: list[list[float]] = field(default_factory=list)
    batch_enqueued_tokens: int = 0
    batch_faults: list[dict[str, Any]] = field(default_factory=list)
    failures: list[Failure] = field(default_factory=list)
    flaws: list[Flaw] = field(default_factory=list)
    grace: float = 0.1
    seed: int = 1


def configure(config: Config, changes: dict[str, Any]) -> None:
    """Change `config` in place. Raises ValueError that names the field."""
    known = {field.name for field in fields(Config)}
    if unknown := set(changes) - known:
        raise ValueError(f"unknown settings {sorted(unknown)}; there are {sorted(known)}")
    for name, value in changes.items():
        match name:
            case "models":
                config.models = {model: _model(given) for model, given in value.items()}
            case "failures":
                config.failures = [_failure(given) for given in value]
            case "flaws":
                config.flaws = [_flaw(given) for given in value]
            case "prompt_cache":
                config.prompt_cache = None if value is None else _filled(CacheRules, value)
            case "retry_after":
                config.retry_after = _one_of(value, RETRY_AFTER_FORMS, name)
            case _:
                setattr(config, name, value)


def _model(given: dict[str, Any]) -> Model:
    model = _filled(Model, given)
    _one_of(model.counting, COUNTING, "counting")
    _one_of(model.tokens, TOKEN_RULES, "tokens")
    return model


def _failure(given: dict[str, Any]) -> Failure:
    failure = _filled(Failure, given)
    _one_of(failure.mode, MODES, "mode")
    return failure


def _flaw(given: dict[str, Any]) -> Flaw:
    flaw = _filled(Flaw, given)
    _one_of(flaw.kind, FLAWS, "kind")
    return flaw


def _filled(kind: type[_T], given: dict[str, Any]) -> _T:
    try:
        return kind(**given)
    except TypeError as error:
        raise ValueError(f"{kind.__name__}: {error}") from error


def _one_of(value: str, allowed: tuple[str, ...], name: str) -> str:
    if value not in allowed:
        raise ValueError(f"{name} must be one of {allowed}")
    return value
