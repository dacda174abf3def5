"""The HTTP client under every provider: aiohttp's connections, and no policy of its own.

It follows no redirects (they would carry the key along), keeps no cookies, retries nothing, and reads at most
`LARGEST_ANSWER` bytes of an answer. A client belongs to one event loop and serves all calls to its provider.

aiohttp, because httpx takes half as much CPU again for a call, even over aiohttp's connections: for authentication,
redirects, cookies and hooks that aren't wanted here.
"""

import asyncio
import functools
import ssl
import time
from collections.abc import Awaitable, Callable, Mapping
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

# Seconds to connect. If it succeeds at all, it takes one or two; the rest of the call's time is the model's.
CONNECT_TIMEOUT: Final = 15.0

# Seconds that an idle connection is kept. Node's and uvicorn's servers close theirs after 5 s, and a request that is
# under way then is lost.
KEPT_IDLE: Final = 4.0

# The longest header, in bytes. Some servers put a policy or a trace into each answer; aiohttp's own bound is 8 kB.
LONGEST_HEADER: Final = 64 * 1024

# The most headers of an answer; aiohttp's own bound is 128.
MOST_HEADERS: Final = 2_000

# Seconds, about a round trip, within which a request learns that its idle connection was closed. If a connection breaks
# later, the provider may have been working.
_IDLE_END: Final = 0.5


@dataclass(frozen=True, slots=True)
class Reply:
    """A complete HTTP answer. Header names are in lower case. `seconds` is the time until the last byte."""

    status: int
    headers: dict[str, str]
    content: bytes
    seconds: float


class HttpClient:
    """Connections to one provider, opened by the first call on its event loop."""

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
        read: "Read | None" = None,
    ) -> Reply:
        """Send one request and read the complete answer within `seconds`, else raise a ProviderError.

        `may_send` is awaited once there is a connection; if it returns False, NotSent is raised. A failure is `billed`
        only if the request was handed to a connection. `read` reads the answer's content, in place of `read_whole`.
        """
        session = self.open()
        _sending.set(sending := _Sending(may_send))
        started = time.monotonic()
        failure: ProviderError
        try:
            async with asyncio.timeout(seconds):
                status, names, body = await _exchange(
                    session, method, url, headers, content, _limits(seconds), read or read_whole
                )
            return Reply(status, names, body, time.monotonic() - started)
        except (aiohttp.ClientError, OSError) as error:
            failure = _transport_failure(error, seconds, sending)
        except AnswerTooLarge:
            failure = Refused(
                f"the answer is larger than the {LARGEST_ANSWER >> 20} MB that are read; it may be paid for, so it is "
                'not asked for again: ask for fewer embeddings in a line, or for encoding_format "base64"',
                code="answer_too_large",
                billed=True,
            )
        # Raised out here, so that the error has no context: aiohttp's errors contain the request and its key.
        raise failure

    async def close(self) -> None:
        """Close all connections. The next call opens new ones."""
        session, self._session, self._loop = self._session, None, None
        if session is not None:
            await session.close()

    def open(self) -> aiohttp.ClientSession:
        """The session of all calls. Creating it takes 50 ms, mostly for the certificates."""
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
class _Sending:
    """Whether one request may be sent, and whether it was: aiohttp writes it as soon as it has a connection.

    `reused`: whether that connection carried another request before.
    """

    may_send: Callable[[], Awaitable[bool]] | None
    reused: bool = True
    written_at: float | None = None

    @property
    def met_idle_end(self) -> bool:
        """Whether a connection that broke without an answer was probably closed for being idle."""
        return self.reused and self.written_at is not None and time.monotonic() - self.written_at < _IDLE_END


_sending: ContextVar[_Sending] = ContextVar("sending")


class _Connector(aiohttp.TCPConnector):
    """Asks `may_send` after the connection is made, since connecting can take long."""

    async def connect(self, *args: Any, **options: Any) -> aiohttp.connector.Connection:
        sending = _sending.get()
        connection = await super().connect(*args, **options)
        if sending.may_send is not None:
            allowed = False
            try:
                allowed = await sending.may_send()
            finally:
                if not allowed:
                    connection.release()
            if not allowed:
                raise NotSent
        sending.written_at = time.monotonic()
        return connection

    async def _create_connection(self, *args: Any, **options: Any) -> Any:
        _sending.get().reused = False
        return await super()._create_connection(*args, **options)


@functools.lru_cache(maxsize=64)
def _limits(seconds: float) -> aiohttp.ClientTimeout:
    """The time for connecting, including name lookup and TLS. The caller bounds the call as a whole."""
    most = min(seconds, CONNECT_TIMEOUT)
    return aiohttp.ClientTimeout(total=None, connect=most, sock_connect=most)


def _proxy(base_url: str) -> httpx.Proxy | None:
    """The proxy that the environment (HTTPS_PROXY, HTTP_PROXY, ALL_PROXY, NO_PROXY) sets for an address.

    Read once: aiohttp would read it again for every call, and take credentials from ~/.netrc as well.
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
    """One context for the process: loading certificates takes 20 ms. Honours SSL_CERT_FILE and SSL_CERT_DIR."""
    return httpx.create_ssl_context()


class AnswerTooLarge(Exception):  # noqa: N818 - becomes a ProviderError
    """The answer has more than `LARGEST_ANSWER` bytes."""


#: Reads an answer's content: status, headers with names in lower case, and what comes.
Read = Callable[[int, Mapping[str, str], aiohttp.StreamReader], Awaitable[bytes]]


async def read_whole(_status: int, headers: Mapping[str, str], content: aiohttp.StreamReader) -> bytes:
    """The whole content. Its length is checked before reading if it is known, and while reading in any case."""
    length = headers.get("content-length", "")
    if length.isdigit() and int(length) > LARGEST_ANSWER:
        raise AnswerTooLarge
    chunks: list[bytes] = []
    size = 0
    async for chunk in content.iter_any():
        size += len(chunk)
        if size > LARGEST_ANSWER:
            raise AnswerTooLarge
        chunks.append(chunk)
    return b"".join(chunks)


async def _exchange(
    session: aiohttp.ClientSession,
    method: str,
    url: str,
    headers: list[tuple[str, str]],
    content: bytes | None,
    timeout: aiohttp.ClientTimeout,  # noqa: ASYNC109 - aiohttp's own bounds
    read: Read,
) -> tuple[int, dict[str, str], bytes]:
    async with session.request(
        method, url, headers=headers, data=content, allow_redirects=False, timeout=timeout
    ) as response:
        names = {name.decode("latin-1").lower(): text.decode("latin-1") for name, text in response.raw_headers}
        return response.status, names, await read(response.status, names, response.content)


def _transport_failure(error: Exception, seconds: float, sending: _Sending) -> ProviderError:
    """The error for a call without an answer. It may be billed only if the request was sent."""
    kind: type[ProviderError] = CallFailed
    written = billed = sending.written_at is not None
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
        case _ if sending.met_idle_end and _brought_nothing(error):
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


def _why_no_http(complaint: str) -> str:
    """What is wrong with an answer that isn't HTTP, as far as it is known."""
    for mark, words in _NO_HTTP:
        if all(word in complaint for word in mark):
            return f"what came back is not HTTP: {words}"
    return "what came back is not HTTP"


#: Words of aiohttp's parser, and what they mean.
_NO_HTTP: Final = (
    (
        ("Content-Length", "Transfer-Encoding"),
        "it has both a Content-Length and a Transfer-Encoding, so its end is unknown; probably a proxy adds one",
    ),
    (("Content-Length",), "its Content-Length is not a number, or there are two"),
    (("than",), f"a header is longer than {LONGEST_HEADER >> 10} kB, or there are more than {MOST_HEADERS:,}"),
)
