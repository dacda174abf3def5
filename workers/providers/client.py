"""The HTTP client under every provider: httpx's interface, aiohttp's connections, and no policy of its own.

It follows no redirect (the key would go along), keeps no cookie, retries nothing, and reads no more of an
answer than `LARGEST_ANSWER`. One client belongs to one event loop and is shared by all calls to its provider.

It calls the transport directly. `httpx.AsyncClient` around it would add authentication, redirects, cookies
and a log line a call, all of them unwanted here, and CPU: 0.20 / 0.25 / 0.37 ms a call at 100 / 1,000 /
3,000 in flight, against 0.15 / 0.17 / 0.26 ms without it.
"""

import asyncio
import functools
import ssl
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit
from urllib.request import getproxies_environment, proxy_bypass

import aiohttp
import httpx
from httpx_aiohttp import AiohttpTransport

from workers.providers.errors import CallFailed, ProviderError

# The largest answers are embeddings: 2,048 inputs of 3,072 floats are about 130 MB as text, which
# takes two requests then; 64 MB hold any answer of a chat model many times over.
LARGEST_ANSWER: Final = 64 * 1024 * 1024
# Connecting takes a second or two where it succeeds at all; the rest of the call's time is the model's.
CONNECT_TIMEOUT: Final = 15.0


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
        self._transport: AiohttpTransport | None = None

    async def send(
        self,
        method: str,
        url: httpx.URL,
        headers: list[tuple[str, str]],
        content: bytes | None,
        seconds: float,
    ) -> Reply:
        """Send one request and read its answer within `seconds`. Raises CallFailed where none comes whole."""
        transport = self._open()
        request = httpx.Request(
            method,
            url,
            headers=headers,
            content=content,
            extensions={"timeout": {"connect": min(seconds, CONNECT_TIMEOUT)}},
        )
        started = time.monotonic()
        failure: ProviderError
        try:
            async with asyncio.timeout(seconds):
                status, names, body = await _exchange(transport, request)
            return Reply(status, names, body, time.monotonic() - started)
        except TimeoutError:
            failure = CallFailed(f"no whole answer within {seconds:g} s", code="timeout", billed=True)
        except httpx.HTTPError as error:
            failure = _transport_failure(error)
        except (aiohttp.ClientError, OSError) as error:
            failure = _transport_failure(error)
        except _AnswerTooLargeError:
            failure = CallFailed(
                f"the answer is larger than {LARGEST_ANSWER >> 20} MB", code="answer_too_large", billed=True
            )
        # Raised out here, so that the error carries no context: httpx's hold the request, and that the key.
        raise failure

    async def close(self) -> None:
        """Close all connections. The next call opens new ones."""
        transport, self._transport, self._loop = self._transport, None, None
        if transport is not None:
            await transport.aclose()

    def _open(self) -> AiohttpTransport:
        loop = asyncio.get_running_loop()
        if self._transport is not None and self._loop is loop:
            return self._transport
        if self._loop is not None and self._loop is not loop and not self._loop.is_closed():
            raise RuntimeError("a provider belongs to the event loop of its first call; connect one for each loop")
        context = _ssl_context()
        # Without a session of ours the transport stops at 100 connections, whatever httpx's own limits say.
        self._transport = AiohttpTransport(
            verify=context, proxy=_proxy(self._base_url), client=lambda: _session(context)
        )
        self._loop = loop
        return self._transport


def _session(context: ssl.SSLContext) -> aiohttp.ClientSession:
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0, ssl=context),
        cookie_jar=aiohttp.DummyCookieJar(),
    )


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


async def _exchange(transport: AiohttpTransport, request: httpx.Request) -> tuple[int, dict[str, str], bytes]:
    response = await transport.handle_async_request(request)
    try:
        headers = {name.decode("latin-1").lower(): text.decode("latin-1") for name, text in response.headers.raw}
        # Told beforehand where it is known; counted while reading in any case.
        length = headers.get("content-length", "")
        if length.isdigit() and int(length) > LARGEST_ANSWER:
            raise _AnswerTooLargeError
        chunks: list[bytes] = []
        size = 0
        async for chunk in _plain(response, headers):
            size += len(chunk)
            if size > LARGEST_ANSWER:
                raise _AnswerTooLargeError
            chunks.append(chunk)
        return response.status_code, headers, b"".join(chunks)
    finally:
        await response.aclose()


def _plain(response: httpx.Response, headers: dict[str, str]) -> AsyncIterator[bytes]:
    """The body without its content coding. No coding is asked for; some gateways send one all the same."""
    if "content-encoding" in headers:
        return response.aiter_bytes()
    assert isinstance(response.stream, httpx.AsyncByteStream)
    return aiter(response.stream)


def _transport_failure(error: Exception) -> CallFailed:
    """What became of the call. Only a connection that never stood proves that nothing was billed.

    The kind is read from aiohttp's own error: the transport tells a server that hung up in the middle of a
    call as httpx.ConnectTimeout.
    """
    cause = error.__cause__ if isinstance(error, httpx.HTTPError) and error.__cause__ else error
    match cause:
        case aiohttp.ClientConnectorDNSError():
            code, words, billed = "dns", "the provider's name cannot be resolved", False
        case aiohttp.ClientSSLError():
            code, words, billed = "tls", "no trusted TLS connection to the provider", False
        case aiohttp.ConnectionTimeoutError():
            code, words, billed = "connect_timeout", f"no connection within {CONNECT_TIMEOUT:g} s", False
        case aiohttp.ClientConnectorError() | httpx.ConnectError():
            code, words, billed = "connect", "the provider cannot be reached", False
        case aiohttp.InvalidURL() | httpx.UnsupportedProtocol():
            code, words, billed = "bad_url", "the provider's base_url is no address", False
        case aiohttp.ClientPayloadError() | httpx.DecodingError():
            code, words, billed = "broken_body", "the answer broke off in the middle", True
        case aiohttp.ClientResponseError():
            code, words, billed = "broken_answer", "what came back is not HTTP", True
        case _:
            code, words, billed = "connection_lost", "the connection broke during the call", True
    return CallFailed(words, code=code, billed=billed)
