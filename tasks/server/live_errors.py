"""The errors of live calls: why a call could not be served, and when its client may try again."""

from typing import Final

from starlette.requests import ClientDisconnect

from limits.reservation import Denied, Impossible
from tasks.jobs import reasons
from tasks.jobs.job import Job
from tasks.server.errors import ApiError, bad_request, budget_spent, not_found, too_many, unavailable
from workers.figures import dollars
from workers.models.routing import NoPrice, NoRoute, NotConfigured
from workers.providers.errors import AccountBlocked, ProviderError, Refused, Throttled, TooLarge

#: Seconds after which a client may try again if no better time is known.
UNKNOWN: Final = 5.0

#: Seconds after which a client of a paused workflow may try again.
WHILE_PAUSED: Final = 30.0

#: Codes of calls whose provider did not answer in time.
_TIMEOUTS: Final = frozenset({"timeout", "connect_timeout"})


def no_route(error: NoRoute, job: Job) -> ApiError:
    """No target can take this call."""
    if isinstance(error, NotConfigured) and not isinstance(error, NoPrice):
        words = str(error).removeprefix("body.model: ")
        return not_found(f"The model '{job.line.model}' is not served: {words}", "model", "model_not_found")
    return bad_request(str(error), param="model", code=error.code)


def no_price(words: str) -> ApiError:
    """The price table cannot be reached."""
    return unavailable(words, UNKNOWN)


def impossible(answer: Impossible) -> ApiError:
    """The call is larger than one of its limits or budgets will ever allow."""
    if answer.dimension == "usd":
        whole = dollars(answer.limit)
        words = f"The call can cost up to {dollars(answer.requested)}, and {reasons.budget(answer.subject)} is {whole}."
        return budget_spent(words)
    words = f"The call needs {answer.requested:,} {answer.dimension}, and {answer.subject} allows {answer.limit:,}."
    return ApiError(413, words, code="request_too_large")


def denied(answer: Denied, failure: ProviderError | None) -> ApiError:
    """The call's turn would come later than its client waits."""
    if answer.reason == "budget":
        return budget_spent(f"{_sentence(reasons.denial(answer))}.")
    retry_in = UNKNOWN if answer.retry_in is None else answer.retry_in
    opens_in = retry_in if answer.opens_in is None else min(answer.opens_in, retry_in)
    why = f"{_sentence(reasons.denial(answer))}."
    if failure is not None:
        why += f" The last attempt failed: {failure}."
    return too_many(f"{why} Try again in {max(1, round(opens_in))} s.", max(opens_in, 0.1))


def paused(workflow: str) -> ApiError:
    """Someone has paused the call's workflow."""
    return unavailable(f"The workflow {workflow} is paused.", WHILE_PAUSED)


def failed(error: ProviderError | None) -> ApiError:
    """The provider did not answer the call."""
    if error is None:
        return ApiError(502, "The provider did not answer.", code="provider_error")
    code = error.code or "provider_error"
    words = error.message or f"The provider failed: {error}"
    match error:
        case TooLarge() | Refused():
            status = error.status if error.status is not None and 400 <= error.status < 500 else 400  # noqa: PLR2004
            return ApiError(status, words, code=code)
        case AccountBlocked():
            return unavailable("None of the provider's accounts accepts calls at the moment.", UNKNOWN)
        case Throttled():
            return too_many(words, error.retry_after or UNKNOWN)
    status = 504 if code in _TIMEOUTS else 502
    return ApiError(status, words, code=code, kind="server_error", retry_after=error.retry_after)


def hung_up() -> ClientDisconnect:
    """The client has hung up before its call was sent."""
    return ClientDisconnect()


def _sentence(words: str) -> str:
    return words[:1].upper() + words[1:]
