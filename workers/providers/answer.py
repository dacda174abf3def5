"""An answer, and the provider that gives it: what every wire format offers to the rest of Overnight."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Protocol

from limits.counting import Usage
from workers.providers.headers import RateLimits


@dataclass(frozen=True, slots=True)
class Answer:
    """A provider's whole, valid answer.

    `body` is the decoded JSON as it came; of a streamed answer, {"stream": its events as text}. `usage` is None where
    the body told none: what was reserved is then the best figure there is. `seconds` is the time from sending to
    the last byte.
    """

    status: int
    request_id: str | None
    body: dict[str, Any]
    usage: Usage | None
    limits: RateLimits
    seconds: float

    def __repr__(self) -> str:
        return f"Answer(status={self.status}, request_id={self.request_id!r}, usage={self.usage})"


class Provider(Protocol):
    """One configured provider. It belongs to the event loop of its first call."""

    @property
    def name(self) -> str:
        """Its name in the configuration."""

    @property
    def api(self) -> str:
        """Its wire format: openai, azure or anthropic."""

    @property
    def endpoints(self) -> frozenset[str]:
        """The batch-line urls that it serves."""

    async def call(
        self,
        url: str,
        body: dict[str, Any],
        *,
        model: str,
        key: str,
        timeout: float | None = None,  # noqa: ASYNC109  # a call's bound is part of its meaning
        may_send: Callable[[], Awaitable[bool]] | None = None,
    ) -> Answer:
        """Send `body`, with `model` in place of its own, and return the answer.

        `timeout` is for the whole call, in seconds; None takes the provider's. Raises a ProviderError for
        everything that is not an answer, and never tries again by itself. `may_send` is asked right before the
        request is written: where it says no, NotSent is raised.
        """

    async def ping(self, key: str) -> str:
        """Ask for the list of models, which costs nothing. Returns in words what was reached."""

    async def open(self) -> None:
        """Make what the first call would have to wait for; nothing is connected yet."""

    async def close(self) -> None:
        """Close the connections. Calls in flight fail; the next call opens new ones."""
