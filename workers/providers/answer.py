"""What every wire format offers to the rest of Overnight: a provider, its answers, and who reads a stream."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Protocol

from limits.counting import Usage
from workers.providers.headers import RateLimits


@dataclass(frozen=True, slots=True)
class Answer:
    """A provider's complete, valid answer.

    `body` is the decoded JSON as it came, or {"stream": events as text} for a streamed answer. `usage` is None if the
    body has none; then the reserved amount is the best estimate. `seconds` is the time from sending to the last byte.
    `tier` is the service tier that the answer names, '' if it names none.
    """

    status: int
    request_id: str | None
    body: dict[str, Any]
    usage: Usage | None
    limits: RateLimits
    seconds: float
    tier: str = ""

    def __repr__(self) -> str:
        return f"Answer(status={self.status}, request_id={self.request_id!r}, usage={self.usage})"


class Sink(Protocol):
    """Who reads a stream as it comes. It must not raise: a reader that has left changes nothing for the call."""

    async def write(self, events: bytes) -> None:
        """Take whole events. Returns when it can take more."""


class Provider(Protocol):
    """A configured provider. It belongs to the event loop of its first call."""

    @property
    def name(self) -> str:
        """Its name in the configuration."""

    @property
    def api(self) -> str:
        """Its wire format: openai, azure or anthropic."""

    @property
    def endpoints(self) -> frozenset[str]:
        """The urls of batch lines that it serves."""

    async def call(
        self,
        url: str,
        body: dict[str, Any],
        *,
        model: str,
        key: str,
        timeout: float | None = None,  # noqa: ASYNC109  # a call's bound is part of its meaning
        may_send: Callable[[], Awaitable[bool]] | None = None,
        sink: Sink | None = None,
    ) -> Answer:
        """Send `body`, with `model` in place of its own, and return the answer.

        `timeout` is for the whole call, in seconds; None takes the provider's. `may_send` is awaited right before the
        request is written; if it returns False, NotSent is raised. A `sink` gets the events of a stream as they come;
        the answer's body is empty then. Raises a ProviderError for everything that is not an answer. Never retries.
        """

    async def ping(self, key: str) -> str:
        """Ask for the list of models, which is free. Returns a description of what was reached."""

    async def open(self) -> None:
        """Create what the first call would have to wait for. Connects to nothing yet."""

    async def close(self) -> None:
        """Close the connections. Calls in flight fail; the next call opens new ones."""
