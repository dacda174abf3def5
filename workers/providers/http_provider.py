"""A call over HTTP, from a job's body to an Answer: what all wire formats share."""

import re
import time
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Mapping
from http import HTTPStatus
from typing import Any, ClassVar, Final

import httpx

from limits.client.compact_json import dumps
from limits.counting import Usage
from workers.providers import sse
from workers.providers.answer import Answer, Sink
from workers.providers.client import HttpClient, Reply
from workers.providers.codes import listed
from workers.providers.decoding import decode
from workers.providers.endpoints import EMBEDDINGS
from workers.providers.errors import AccountBlocked, ProviderError, Refused
from workers.providers.failures import classify
from workers.providers.headers import NO_LIMITS, parse_limits
from workers.providers.relay import Relay

# Seconds that a ping may take.
_PING_TIMEOUT: Final = 15.0

#: The number of addresses to cache. Beyond it, the cache starts again.
MOST_URLS: Final = 4_096

# A path that already has a version.
_VERSIONED: Final = re.compile(r"/v\d\w*(?:/|$)")

# What a header can hold.
_KEY: Final = re.compile(r"[!-~]{0,4096}")

# A request id worth keeping.
_REQUEST_ID: Final = re.compile(r"[!-~]{1,128}")

# Shorter keys are not removed from answers, since they could be any word. Characters.
_SHORTEST_KEY: Final = 8


class HttpProvider(ABC):
    """A provider over HTTP. A wire format adds its paths, its headers, and how to read its answers."""

    api: ClassVar[str]
    endpoints: ClassVar[frozenset[str]]
    request_id_headers: ClassVar[tuple[str, ...]] = ("x-request-id",)

    def __init__(self, name: str, base_url: str, timeout: float, *, requests_are_daily: bool = False) -> None:
        self.name = name
        self._base = base_url
        self._timeout = timeout
        self._requests_are_daily = requests_are_daily
        self.ignores_limits = False
        """Whether to ignore its rate-limit headers."""
        self._http = HttpClient(base_url)
        self._urls: dict[tuple[str, str], str] = {}

    def __repr__(self) -> str:
        return f"{type(self).__name__}(name={self.name!r})"

    async def call(
        self,
        url: str,
        body: dict[str, Any],
        *,
        model: str,
        key: str,
        timeout: float | None = None,  # noqa: ASYNC109  # a call's bound is part of its meaning: its error says so
        may_send: Callable[[], Awaitable[bool]] | None = None,
        sink: Sink | None = None,
    ) -> Answer:
        """Send `body`, with `model` in place of its own, and return the answer.

        `timeout` is for the whole call, in seconds; None takes the provider's. `may_send` is awaited right before the
        request is written; if it returns False, NotSent is raised. A `sink` gets the events of a stream as they come;
        the answer's body is empty then. Raises a ProviderError for everything that is not an answer. Never retries.
        """
        if url not in self.endpoints:
            raise Refused(f"{self.name} ({self.api}) does not serve {url}", code="unknown_url")
        _check_key(self.name, key)
        relay = None
        if sink is not None and sse.asks_for_stream(body):
            relay = Relay(url, body, key, sink)
            body = sse.with_usage(url, body)
        content = _encode({**body, "model": model})
        reply = await self._http.send(
            "POST",
            self._url(url, model),
            self._headers(key),
            content,
            self._timeout if timeout is None else timeout,
            may_send,
            relay.read if relay else None,
        )
        return self._answer(url, body, content, reply, key, relay)

    def _answer(
        self, url: str, body: dict[str, Any], content: bytes, reply: Reply, key: str, relay: Relay | None = None
    ) -> Answer:
        """The answer in a reply. Raises the ProviderError that it is otherwise."""
        now = time.time()
        limits = NO_LIMITS
        if not self.ignores_limits:
            limits = parse_limits(reply.headers, now=now, requests_are_daily=self._requests_are_daily)
        received = _without(key, reply.content)
        decoded = decode(received, exact=url != EMBEDDINGS)
        request_id = self._request_id(reply, key)
        brought: Any
        if relay is not None and relay.is_stream:
            whole = decoded = relay.summary()
            brought = {}
        else:
            whole, brought = _assembled(url, body, reply, received, decoded)
        usage = None
        if reply.status < HTTPStatus.MULTIPLE_CHOICES and isinstance(whole, dict):
            usage = self._usage(url, whole)
            if self._is_answer(url, whole):
                return Answer(reply.status, request_id, brought, usage, limits, reply.seconds, _tier(whole, reply))
        error = classify(
            reply.status,
            reply.headers,
            decoded,
            provider=self.name,
            key=key,
            now=now,
            limits=limits,
            request_id=request_id,
            usage=usage,
            tier=body.get("service_tier"),
        )
        if listed(error.code) == "other" and error.code.encode() in content:
            error.code = f"http_{reply.status}"  # it may be a word of the prompt
        raise error

    def read(self, url: str, status: int, content: bytes, key: str = "") -> Answer:
        """The answer in a result of the provider's Batch API. Raises the ProviderError that it is otherwise."""
        return self._answer(url, {}, b"", Reply(status, {}, content, 0.0), key)

    async def ping(self, key: str) -> str:
        """Ask for the list of models, which is free. Returns a description of what was reached."""
        _check_key(self.name, key)
        reply = await self._http.send("GET", str(self._models_url()), self._headers(key), None, _PING_TIMEOUT)
        decoded = decode(reply.content)
        if reply.status >= HTTPStatus.MULTIPLE_CHOICES or not isinstance(decoded, dict):
            error: ProviderError = classify(
                reply.status, reply.headers, decoded, provider=self.name, key=key, now=time.time()
            )
            raise error
        models = decoded.get("data")
        listed = f", {len(models)} models listed" if isinstance(models, list) else ""
        return f"reached in {reply.seconds * 1000:.0f} ms{listed}"

    async def open(self) -> None:
        """Create what the first call would have to wait for. Connects to nothing yet."""
        self._http.open()

    async def close(self) -> None:
        """Close the connections. Calls in flight fail; the next call opens new ones."""
        await self._http.close()

    def _url(self, url: str, model: str) -> str:
        known = self._urls.get((url, model))
        if known is None:
            if len(self._urls) >= MOST_URLS:
                self._urls.clear()
            known = self._urls[url, model] = str(httpx.URL(self._address(url, model)))
        return known

    def _request_id(self, reply: Reply, key: str) -> str | None:
        for name in self.request_id_headers:
            value = reply.headers.get(name, "")
            if _REQUEST_ID.fullmatch(value) and not (key and key in value):
                return value
        return None

    @abstractmethod
    def _address(self, url: str, model: str) -> str:
        """The address for calls of `url` with `model`."""

    @abstractmethod
    def _models_url(self) -> httpx.URL:
        """The address of the list of models."""

    @abstractmethod
    def _headers(self, key: str) -> list[tuple[str, str]]:
        """The headers of a request, including the key."""

    @abstractmethod
    def _is_answer(self, url: str, body: Mapping[str, Any]) -> bool:
        """Whether a 2xx body is a finished answer."""

    @abstractmethod
    def _usage(self, url: str, body: Mapping[str, Any]) -> Usage | None:
        """The tokens that the body reports, or None."""


# The headers of every request. Compressed answers would cost more CPU than they save: they are small and read once.
COMMON_HEADERS: Final = [
    ("content-type", "application/json"),
    ("accept", "application/json"),
    ("accept-encoding", "identity"),
    ("user-agent", "overnight"),
]


def _check_key(provider: str, key: str) -> None:
    """Refuse a key that no header can hold, before it gets into a traceback."""
    if not _KEY.fullmatch(key):
        raise AccountBlocked(
            "the key holds characters that no key has: a line break, a space, a letter with an accent",
            code="bad_key",
            advice=f"set the key of {provider} again where api_key points, without quotes or line breaks",
        )


def _without(key: str, content: bytes) -> bytes:
    """The answer with the key removed, if the provider repeats it: a key must not get into files."""
    secret = key.encode()
    return content.replace(secret, b"[key]") if len(secret) >= _SHORTEST_KEY and secret in content else content


def _tier(whole: Mapping[str, Any], reply: Reply) -> str:
    """The service tier that served the call, if the answer names it: OpenAI's, Groq's and Anthropic's do, and Gemini's
    headers.
    """
    usage = whole.get("usage")
    named = (
        whole.get("service_tier"),
        usage.get("service_tier") if isinstance(usage, dict) else None,
        reply.headers.get("x-gemini-service-tier"),
    )
    return next((each.lower() for each in named if isinstance(each, str)), "")


def _assembled(url: str, body: dict[str, Any], reply: Reply, received: bytes, decoded: Any) -> tuple[Any, Any]:
    """The answer as it is without streaming, and what its reader gets: for a stream, the events."""
    if sse.asks_for_stream(body):
        stream = received.decode("utf-8", "replace")
        streamed = reply.headers.get("content-type", "").startswith(sse.EVENT_STREAM)
        return sse.assembled(url, stream) if streamed else None, {"stream": stream}
    if isinstance(decoded, str) and sse.is_stream(decoded):
        decoded = sse.assembled(url, received.decode("utf-8", "replace"))
    return decoded, decoded


def _encode(body: dict[str, Any]) -> bytes:
    try:
        return dumps(body)
    except TypeError:
        problem = Refused(
            "the body cannot be written as JSON: it contains half a surrogate pair, or a whole number beyond 64 bits",
            code="bad_body",
        )
    raise problem


def versioned(base_url: str) -> str:
    """The base address with a version: adds `/v1` unless its path has one, as `/v1beta/openai` does."""
    base = base_url.rstrip("/")
    return base if _VERSIONED.search(httpx.URL(base).path) else f"{base}/v1"


def natural(value: Any) -> int:
    """A usable token count: a whole number, not negative, else 0."""
    return value if type(value) is int and value >= 0 else 0
