# ruff: noqa: N818 -- named after what happened, as in the table of failures
"""What went wrong with a call to a provider, by what the caller must do about it.

    ProviderError
    ├── Throttled        429: wait `retry_after`; no attempt is spent, all calls of this model pause
    ├── Unavailable      503, 529: the attempt failed: honour `retry_after`, try another target
    ├── CallFailed       timeout, connection error, 500, 502, 504: the attempt failed
    │   └── Broken       something came that is no answer: it may be paid for, and the next may be the same
    ├── Interrupted      408, 409: the attempt failed, which says nothing about the provider's health
    ├── AccountBlocked   401, 402, 403, quota or spend cap used up, no key: block the account, show `advice`
    └── Refused          400, 404, 413, 422 and other 4xx in the provider's JSON: the job fails; the provider is healthy
        └── TooLarge     the request exceeds the limit itself: waiting would never help

`str()` and `repr()` contain only kind, status and code, and may be logged. `message` contains the provider's own words,
which may quote the job, so it belongs in the job's error line and nowhere else. `workers.providers.failures` decides
which error an answer is.
"""

from typing import ClassVar, Literal

from limits.counting import Usage
from workers.providers.headers import RateLimits


class NotSent(Exception):
    """The request was held back before a byte was written. It counts nowhere and costs nothing."""


class ProviderError(Exception):
    """A call that brought no answer.

    - `status`: the HTTP status, None if nothing came
    - `code`: the provider's word for the failure, or ours: letters, digits and `_.-`
    - `message`: the provider's own words, bounded in length and without the key
    - `retry_after`: the wait that the provider asked for, in seconds, or None
    - `limits`: what the answer's headers said
    - `billed`: whether the provider may have charged for this attempt. If nothing came, that is whether the request was
      written to a connection
    - `advice`: what a person has to do about a blocked account
    - `dimension`: the limit that a 429 named, as quotas call it, or ''
    - `usage`: the tokens that the failed answer reported, or None
    - `certain`: whether a blocked account named a code that can mean nothing else
    - `only_for`: what a throttle is limited to: this service tier ("tier"), calls of this size ("size"), or '' for all
    - `ceiling_field`: the name that the model wants for the ceiling of its answer, '' if that was not refused
    """

    circuit: ClassVar[Literal["failure", "success", "none"]] = "none"
    """What the failure means for the circuit of its target."""
    spends_attempt: ClassVar[bool] = True
    """Whether it counts as one of the job's attempts."""

    def __init__(
        self,
        message: str = "",
        *,
        status: int | None = None,
        code: str = "",
        retry_after: float | None = None,
        limits: RateLimits | None = None,
        request_id: str | None = None,
        billed: bool = False,
        advice: str = "",
        dimension: str = "",
        usage: Usage | None = None,
        certain: bool = False,
        only_for: Literal["", "tier", "size"] = "",
        ceiling_field: str = "",
    ) -> None:
        super().__init__()
        self.args = ()  # BaseException keeps its arguments here, where loggers look
        self.message = message
        self.status = status
        self.code = code
        self.retry_after = retry_after
        self.limits = limits
        self.request_id = request_id
        self.billed = billed
        self.advice = advice
        self.dimension = dimension
        self.usage = usage
        self.certain = certain
        self.only_for = only_for
        self.ceiling_field = ceiling_field
        self.blocked = True
        self.fingerprint = "*"

    def __str__(self) -> str:
        return " ".join(str(part) for part in (self.status, self.code) if part) or type(self).__name__

    def __repr__(self) -> str:
        return f"{type(self).__name__}(status={self.status}, code={self.code!r})"

    def __reduce__(self) -> tuple[object, ...]:
        return (_rebuild, (type(self), self.__dict__.copy()))


def _rebuild(kind: type[ProviderError], state: dict[str, object]) -> ProviderError:
    error = kind(str(state.get("message", "")))
    error.__dict__.update(state)
    return error


class Throttled(ProviderError):
    """Too many requests or tokens. The job waits without spending an attempt."""

    spends_attempt = False


class Unavailable(ProviderError):
    """The provider says that it is overloaded or down. `retry_after`, if given, pauses the model."""

    circuit = "failure"


class CallFailed(ProviderError):
    """No usable answer: try another target, else try again later."""

    circuit = "failure"


class Broken(CallFailed):
    """What came is complete but no answer. A job tries at most twice, since each may be paid for."""


class Interrupted(ProviderError):
    """The request got lost or collided with another. It may be sent again."""


class AccountBlocked(ProviderError):
    """The account cannot call until a person follows `advice`.

    Unless `certain`, only this job may be refused: then `blocked` is False until another job is refused as well, and
    the attempt counts as failed. A blocked account's jobs wait and spend no attempt. `fingerprint` is the key's, or "*"
    if the key doesn't matter.
    """

    spends_attempt = False


class Refused(ProviderError):
    """The provider understood and refused: permanent, and a sign that it is up."""

    circuit = "success"


class TooLarge(Refused):
    """The request alone exceeds a limit of the model or the account."""
