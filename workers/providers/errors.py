# ruff: noqa: N818 -- they are named for what happened, as the table of failures names them
"""What went wrong with a call to a provider, as the caller must treat it.

    ProviderError
    ├── Throttled        429: wait `retry_after`; no attempt is spent, everybody's calls of this model pause
    ├── Unavailable      503, 529: the attempt failed; honour `retry_after`, try another target
    ├── CallFailed       timeout, connection error, 500, 502, 504: the attempt failed
    │   └── Broken       an answer came that is none: it may be paid for, and the next may be the same
    ├── Interrupted      408, 409: the attempt failed, and says nothing about the provider's health
    ├── AccountBlocked   401, 402, 403, quota or spend cap used up, no key: block the account, tell a person `advice`
    └── Refused          400, 404, 413, 422 and other 4xx in the provider's JSON: the job fails; the provider is healthy
        └── TooLarge     the request exceeds the limit itself: waiting would never help

`str()` and `repr()` of an error hold its kind, status and code only, and may be logged. `message` holds the
provider's own words, which may quote the job: it belongs into the job's error line and nowhere else.
`workers.providers.failures` decides which failure is which.
"""

from typing import ClassVar, Literal

from limits.counting import Usage
from workers.providers.headers import RateLimits


class NotSent(Exception):
    """The request was held back before a byte of it was written: it counts nowhere, and costs nothing."""


class ProviderError(Exception):
    """A call that brought no answer.

    `status` is the HTTP status, or None where no answer came. `code` is the provider's word for the failure,
    or ours, made of letters, digits and `_.-`. `message` is the provider's own words, bounded in length and
    with the key taken out. `retry_after` is the wait that was asked for, in seconds, or None. `limits` is
    what the answer's headers said. `billed` is whether the provider may have charged for this attempt;
    if no answer came, that is whether the request was written to a connection.
    `dimension` is the limit that a 429 named, as quotas call it, '' where it named none. `usage` is the tokens that the
    failed answer told, None where it told none: then the bill is known. `alone` names the other calls that it says
    nothing about: those of another service tier ("tier"), or shorter ones ("size"). `ceiling_field` is the name that
    the model wants for the ceiling of its answer, '' if that was not refused.
    """

    circuit: ClassVar[Literal["failure", "success", "none"]] = "none"
    """What the failure says to the circuit of its provider and model."""
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
        self.args = ()  # BaseException keeps what it was made with there, where loggers look
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
    """Too many requests or tokens: not this job's fault, so it waits without spending an attempt."""

    spends_attempt = False


class Unavailable(ProviderError):
    """The provider is overloaded or down and says so; `retry_after` pauses the model where it is given."""

    circuit = "failure"


class CallFailed(ProviderError):
    """No answer, or none that is one: another target, else another attempt later."""

    circuit = "failure"


class Broken(CallFailed):
    """What came back whole is no answer. A job asks for one twice, never more often: each may be paid for."""


class Interrupted(ProviderError):
    """The request itself got lost or in another's way; it may be sent again."""


class AccountBlocked(ProviderError):
    """The account cannot call until a person has done what `advice` says.

    `certain`: it named a code that can mean nothing else. Otherwise it may be this job's alone, and `blocked` is False
    until another job is refused, too: then the attempt failed. A blocked account's jobs wait, and spend no attempt.
    `fingerprint` is that of the key, "*" if the key does not matter.
    """

    spends_attempt = False


class Refused(ProviderError):
    """The provider understood and will not do it: permanent. It proves that the provider is up."""

    circuit = "success"


class TooLarge(Refused):
    """The request alone exceeds a limit of the model or the account."""
