"""The HTTP client under every provider: aiohttp's connections, and no policy of its own.

It follows no redirect (the key would go along), keeps no cookie, retries nothing, and reads no more of an
answer than `LARGEST_ANSWER`. One client belongs to one event loop and is shared by all calls to its provider.

It is aiohttp for its CPU: httpx over the same connections (httpx-aiohttp) takes half as much again a call, for
authentication, redirects, cookies and hooks that are unwanted here.
"""

import asyncio
import functools
import ssl
import time
from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlsplit
from urllib.request import getproxies_environment, proxy_bypass

import aiohttp
import httpx
from aiohttp.http_parser import RawResponseMessage

from workers.providers.endpoints import LARGEST_ANSWER
from workers.providers.errors import Broken, CallFailed, Interrupted, NotSent, ProviderError, Refused

# Connecting takes a second or two where it succeeds at all; the rest of the call's time is the model's.
CONNECT_TIMEOUT: Final = 15.0
# Node's and uvicorn's servers close a connection that was idle for 5 s: a request that is on its way then is lost.
KEPT_IDLE: Final = 4.0
# Some servers put a policy or a trace into each answer's headers; aiohttp's own bounds are 8 kB and 128.
LONGEST_HEADER: Final = 64 * 1024
MOST_HEADERS: Final = 2_000
# A request that met the end of an idle connection is told within a round trip. What breaks later may have been at work.
_IDLE_END: Final = 0.5


@dataclass(frozen=True, slots=True)
class Reply:
    """An HTTP answer, read to its end. Header names are in lower case; `seconds` ends at the last byte."""

    status: int
    headers: dict[str, str]
    content: bytes
    seconds: float


class HttpClient:
    """Connections to one provider, opened by the first call on the event loop that it runs on."""

    def __init__(self, base_url: str) -> None:
        self._base_url = base_url
        self._loop: asyncio.AbstractEventLoop | None = None
        self._session: aiohttp.ClientSession | None = None

    async def send(
        self,
        method: str,
        url: str,
        headers: list[tuple[str, str]],
        content: bytes | None,
        seconds: float,
        may_send: Callable[[], Awaitable[bool]] | None = None,
    ) -> Reply:
        """Send one request and read its answer within `seconds`. Raises CallFailed if none comes whole.

        `may_send` is asked once there is a connection; if it says no, NotSent is raised. A failure is `billed` only
        if the request was handed to a connection.
        """
        session = self.open()
        _departure.set(departure := _Departure(may_send))
        started = time.monotonic()
        failure: ProviderError
        try:
            async with asyncio.timeout(seconds):
                status, names, body = await _exchange(session, method, url, headers, content, _limits(seconds))
            return Reply(status, names, body, time.monotonic() - started)
        except (aiohttp.ClientError, OSError) as error:
            failure = _transport_failure(error, seconds, departure)
        except _AnswerTooLargeError:
            failure = Refused(
                f"the answer is larger than the {LARGEST_ANSWER >> 20} MB that are read; it may be paid for, so it is "
                'not asked for again: ask for fewer embeddings in a line, or for encoding_format "base64"',
                code="answer_too_large",
                billed=True,
            )
        # Raised out here, so that the error carries no context: aiohttp's hold the request, and that the key.
        raise failure

    async def close(self) -> None:
        """Close all connections. The next call opens new ones."""
        session, self._session, self._loop = self._session, None, None
        if session is not None:
            await session.close()

    def open(self) -> aiohttp.ClientSession:
        """What all calls share: the first one would wait 50 ms for it, most of them for the certificates."""
        loop = asyncio.get_running_loop()
        if self._session is not None and self._loop is loop:
            return self._session
        if self._loop is not None and self._loop is not loop and not self._loop.is_closed():
            raise RuntimeError("a provider belongs to the event loop of its first call; connect one for each loop")
        proxy = _proxy(self._base_url)
        self._session = aiohttp.ClientSession(
            connector=_Connector(limit=0, ssl=_ssl_context(), keepalive_timeout=KEPT_IDLE),
            max_line_size=LONGEST_HEADER,
            max_field_size=LONGEST_HEADER,
            max_headers=MOST_HEADERS,
            cookie_jar=aiohttp.DummyCookieJar(),
            proxy=str(proxy.url) if proxy else None,
            proxy_auth=aiohttp.BasicAuth(*proxy.auth) if proxy and proxy.auth else None,
        )
        self._loop = loop
        return self._session


@dataclass(slots=True)
class _Departure:
    """Whether one request may leave, and whether it did: aiohttp writes it as soon as it has its connection.

    `reused` says whether that connection had carried another request before.
    """

    may_send: Callable[[], Awaitable[bool]] | None
    reused: bool = True
    written_at: float | None = None

    @property
    def met_idle_end(self) -> bool:
        """Whether a connection that broke without an answer had probably been closed for being idle."""
        return self.reused and self.written_at is not None and time.monotonic() - self.written_at < _IDLE_END


_departure: ContextVar[_Departure] = ContextVar("departure")


class _Connector(aiohttp.TCPConnector):
    """A connection may take long to be made: whether its request may still leave is asked after that."""

    async def connect(self, *args: Any, **options: Any) -> aiohttp.connector.Connection:
        departure = _departure.get()
        connection = await super().connect(*args, **options)
        if departure.may_send is not None:
            leaves = False
            try:
                leaves = await departure.may_send()
            finally:
                if not leaves:
                    connection.release()
            if not leaves:
                raise NotSent
        departure.written_at = time.monotonic()
        return connection

    async def _create_connection(self, *args: Any, **options: Any) -> Any:
        _departure.get().reused = False
        return await super()._create_connection(*args, **options)


@functools.lru_cache(maxsize=64)
def _limits(seconds: float) -> aiohttp.ClientTimeout:
    """How long a connection may take, name and TLS included; the call as a whole is bounded around it."""
    most = min(seconds, CONNECT_TIMEOUT)
    return aiohttp.ClientTimeout(total=None, connect=most, sock_connect=most)


def _proxy(base_url: str) -> httpx.Proxy | None:
    """The proxy that the environment (HTTPS_PROXY, HTTP_PROXY, ALL_PROXY, NO_PROXY) sets for an address.

    Read once: aiohttp would read it anew for every call, and take credentials from ~/.netrc besides.
    """
    address = urlsplit(base_url)
    host = address.hostname or ""
    if host == "localhost" or host.startswith("127.") or host == "::1" or proxy_bypass(host):
        return None
    proxies = getproxies_environment()
    proxy = proxies.get(address.scheme) or proxies.get("all")
    return httpx.Proxy(proxy) if proxy else None


@functools.cache
def _ssl_context() -> ssl.SSLContext:
    """One context a process: loading the certificates takes 20 ms. Honours SSL_CERT_FILE and SSL_CERT_DIR."""
    return httpx.create_ssl_context()


class _AnswerTooLargeError(Exception):
    pass


async def _exchange(
    session: aiohttp.ClientSession,
    method: str,
    url: str,
    headers: list[tuple[str, str]],
    content: bytes | None,
    timeout: aiohttp.ClientTimeout,  # noqa: ASYNC109 - aiohttp's own bounds
) -> tuple[int, dict[str, str], bytes]:
    async with session.request(
        method, url, headers=headers, data=content, allow_redirects=False, timeout=timeout
    ) as response:
        names = {name.decode("latin-1").lower(): text.decode("latin-1") for name, text in response.raw_headers}
        # Told beforehand where it is known; counted while reading in any case.
        length = names.get("content-length", "")
        if length.isdigit() and int(length) > LARGEST_ANSWER:
            raise _AnswerTooLargeError
        chunks: list[bytes] = []
        size = 0
        async for chunk in response.content.iter_any():
            size += len(chunk)
            if size > LARGEST_ANSWER:
                raise _AnswerTooLargeError
            chunks.append(chunk)
        return response.status, names, b"".join(chunks)


def _transport_failure(error: Exception, seconds: float, departure: _Departure) -> ProviderError:
    """What became of the call. A provider that was sent nothing bills nothing; else it may have."""
    kind: type[ProviderError] = CallFailed
    written = billed = departure.written_at is not None
    match error:
        case aiohttp.ClientConnectorDNSError():
            code, words = "dns", "the provider's name cannot be resolved"
        case aiohttp.ClientSSLError():
            code, words = "tls", "no trusted TLS connection to the provider"
        case TimeoutError() if not written:  # aiohttp's ConnectionTimeoutError is one, too
            code, words = "connect_timeout", f"no connection within {min(seconds, CONNECT_TIMEOUT):g} s"
        case TimeoutError():
            code, words = "timeout", f"no whole answer within {seconds:g} s"
        case aiohttp.ClientConnectorError():
            code, words = "connect", "the provider cannot be reached"
        case aiohttp.InvalidURL():
            code, words = "bad_url", "the provider's base_url is no address"
        case aiohttp.ClientPayloadError():
            code, words = "broken_body", "the answer broke off in the middle"
        case aiohttp.ClientResponseError() if written:
            kind, code, words = Broken, "broken_answer", _why_no_http(error.message)
        case _ if departure.met_idle_end and _brought_nothing(error):
            kind, billed = Interrupted, False
            code, words = "connection_lost", "the provider closed an idle connection as the call was sent"
        case _ if written:
            code, words = "connection_lost", "the connection broke during the call"
        case _:
            code, words = "connect", "the connection broke before the call was sent"
    return kind(words, code=code, billed=billed)


def _brought_nothing(error: Exception) -> bool:
    """Whether a connection ended without a byte of an answer."""
    if isinstance(error, aiohttp.ServerDisconnectedError):
        return not isinstance(error.message, RawResponseMessage)
    return isinstance(error, ConnectionResetError | BrokenPipeError | aiohttp.ClientOSError)


def _why_no_http(told: str) -> str:
    """What is wrong with an answer that is no HTTP, as far as it can be named."""
    for mark, words in _NO_HTTP:
        if all(word in told for word in mark):
            return f"what came back is not HTTP: {words}"
    return "what came back is not HTTP"


#: What the parser says of an answer, and what that is.
_NO_HTTP: Final = (
    (
        ("Content-Length", "Transfer-Encoding"),
        "it has both a Content-Length and a Transfer-Encoding, so its end is not known; a proxy before it adds one",
    ),
    (("Content-Length",), "its Content-Length is no number, or it has two"),
    (("than",), f"a header is longer than {LONGEST_HEADER >> 10} kB, or there are more than {MOST_HEADERS:,}"),
)
