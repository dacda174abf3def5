"""Requests to a Batch API: bounded in size and time, streamed both ways, and with the errors of a live call."""

import logging
import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from http import HTTPStatus
from typing import Any, Final

import httpx
import orjson

from workers.providers.batch_api import NoBatchApi, NotAllowed
from workers.providers.decoding import decode
from workers.providers.errors import AccountBlocked, CallFailed, Interrupted, ProviderError
from workers.providers.failures import classify

# It logs every request at INFO.
logging.getLogger("httpx").setLevel(logging.WARNING)

#: Seconds to connect, and to wait for each piece of what is sent or received.
CONNECT: Final = 15.0
PIECE: Final = 60.0

#: Seconds that a whole answer may take, once its first byte has come.
WHOLE: Final = 30.0

#: Seconds that a whole upload or download may take.
TRANSFER: Final = 3_600.0

#: The most that is read of an answer other than a file, in bytes: a page of a list.
LARGEST_ANSWER: Final = 32 << 20

#: The most that is read of a file of results, in bytes.
LARGEST_FILE: Final = 8 << 30

#: Statuses of an address without a Batch API.
_ABSENT: Final = frozenset({HTTPStatus.NOT_FOUND, HTTPStatus.METHOD_NOT_ALLOWED, HTTPStatus.NOT_IMPLEMENTED})

#: How OpenAI refuses a key that may only do other things, with a 401.
_SCOPES: Final = re.compile(r"insufficient permissions|missing scopes?", re.IGNORECASE)

#: An id that may stand in an address.
_ID: Final = re.compile(r"(?:[\w.~-]+/)?[\w.~:-]{1,256}")


class BatchHttp:
    """The connections to one provider's Batch API. `headers` makes the headers that carry a key, `query` is in all."""

    def __init__(
        self,
        name: str,
        base: str,
        timeout: float,
        headers: Callable[[str], dict[str, str]],
        query: Mapping[str, str] | None = None,
    ) -> None:
        self.name = name
        self.base = base
        self._headers = headers
        self._query = dict(query or {})
        self._timeout = httpx.Timeout(min(timeout, PIECE), connect=min(timeout, CONNECT))
        self._client: httpx.Client | None = None

    def close(self) -> None:
        """Close every connection."""
        client, self._client = self._client, None
        if client is not None:
            client.close()

    def ask(  # a request has this many parts
        self,
        method: str,
        path: str,
        key: str,
        *,
        common: bool = False,
        content: Iterable[bytes] | None = None,
        json: Any = None,
        query: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> dict[str, Any]:
        """One request; its answer, a JSON object. Raises a ProviderError otherwise.

        `common`: the address is one for all files or provider batches, so that a 404 means that there is no Batch API.
        """
        answer, _ = self.exchange(
            method, path, key, common=common, content=content, json=json, query=query, headers=headers
        )
        return answer

    def exchange(
        self, method: str, path: str, key: str, *, common: bool = False, **more: Any
    ) -> tuple[dict[str, Any], httpx.Headers]:
        """As `ask`; returns the answer and its headers. An absolute `path` must be at the provider's own address."""
        query, given = self._query | dict(more.pop("query", None) or {}), more.pop("headers", None)
        headers = {**self._headers(key), **(given or {})}
        try:
            with self._http.stream(method, self._address(path), params=query or None, headers=headers, **more) as reply:
                content = _bounded(reply)
        except (httpx.ConnectError, httpx.ConnectTimeout) as exc:
            raise _lost(exc, sent=False) from None
        except httpx.HTTPError as exc:
            raise _lost(exc, sent=True) from None
        if reply.status_code >= HTTPStatus.MULTIPLE_CHOICES:
            raise self._error(reply, content, key, common=common)
        value = decode(content) if content.strip() else {}
        if isinstance(value, list):
            value = {"data": value}  # Together's list
        if not isinstance(value, dict):
            raise CallFailed("the Batch API's answer is no JSON object", code="broken_body", billed=True)
        return value, reply.headers

    def download(self, path: str, key: str, query: Mapping[str, str] | None = None) -> Iterator[bytes]:
        """The bytes of a file, in pieces. Raises CallFailed if it is cut off, too large or too slow."""
        ends, size = time.monotonic() + TRANSFER, 0
        query = self._query | dict(query or {})
        try:
            with self._http.stream(
                "GET", self._address(path), params=query or None, headers=self._headers(key)
            ) as reply:
                if reply.status_code >= HTTPStatus.MULTIPLE_CHOICES:
                    raise self._error(reply, _bounded(reply), key, common=False)
                for piece in reply.iter_bytes(1 << 20):
                    size += len(piece)
                    if size > LARGEST_FILE or time.monotonic() > ends:
                        raise CallFailed("the file of results is too large or too slow", code="too_slow")
                    yield piece
        except httpx.HTTPError as exc:
            raise _lost(exc, sent=False) from None

    @property
    def _http(self) -> httpx.Client:
        self._client = self._client or httpx.Client(timeout=self._timeout)
        return self._client

    def _address(self, path: str) -> str:
        """The whole address. A key never goes to another host than the configured one."""
        if "://" not in path:
            return self.base + path
        one, other = httpx.URL(path), httpx.URL(self.base)
        if (one.scheme, one.host, one.port) != (other.scheme, other.host, other.port):
            raise CallFailed("the Batch API names an address at another host", code="broken_body")
        return path

    def _error(self, reply: httpx.Response, content: bytes, key: str, *, common: bool) -> ProviderError:
        headers = {name.lower(): value for name, value in reply.headers.items()}
        found = classify(reply.status_code, headers, decode(content), provider=self.name, key=key, now=time.time())
        if common and reply.status_code in _ABSENT and not found.code.startswith("model"):
            return NoBatchApi(f"{self.name} has no Batch API at this address", status=found.status, code=found.code)
        if isinstance(found, AccountBlocked) and not found.certain:
            forbidden = reply.status_code == HTTPStatus.FORBIDDEN
            if forbidden or (reply.status_code == HTTPStatus.UNAUTHORIZED and _SCOPES.search(found.message)):
                return NotAllowed(found.message, status=found.status, code=found.code)
        return found


def form(fields: Mapping[str, str], file: tuple[str, int, Iterable[bytes]], boundary: str) -> Any:
    """A multipart form with a file (name, size, content): its headers, and its content in pieces."""
    name, size, source = file
    head = "".join(
        f'--{boundary}\r\nContent-Disposition: form-data; name="{field}"\r\n\r\n{value}\r\n'
        for field, value in fields.items()
    ) + (
        f'--{boundary}\r\nContent-Disposition: form-data; name="file"; filename="{name}"\r\n'
        "Content-Type: application/jsonl\r\n\r\n"
    )
    tail = f"\r\n--{boundary}--\r\n"
    headers = {
        "content-type": f"multipart/form-data; boundary={boundary}",
        "content-length": str(len(head) + size + len(tail)),
    }

    def content() -> Iterator[bytes]:
        yield head.encode()
        yield from timely(source, TRANSFER)
        yield tail.encode()

    return headers, content()


def timely(source: Iterable[bytes], seconds: float) -> Iterator[bytes]:
    """The pieces of a request's body. Raises Interrupted if they are not taken within `seconds`: it never arrives."""
    ends = time.monotonic() + seconds
    for piece in source:
        if time.monotonic() > ends:
            raise Interrupted("the Batch API takes the lines too slowly", code="too_slow")
        yield piece


def fenced(body: Any, may_send: Callable[[], bool]) -> tuple[Iterator[bytes], dict[str, str]]:
    """A JSON body, and its headers, that is written only if `may_send` returns True at that moment.

    A request whose body does not come is none: the provider waits for the bytes that its headers announce.
    """
    encoded = orjson.dumps(body)

    def content() -> Iterator[bytes]:
        check(may_send)
        yield encoded

    return content(), {"content-type": "application/json", "content-length": str(len(encoded))}


def check(may_send: Callable[[], bool]) -> None:
    """Raise Interrupted if a request must not be sent any more."""
    if not may_send():
        raise Interrupted("the create was held up for too long, and is not sent", code="too_late")


def text(value: Mapping[str, Any], name: str) -> str:
    """A text that an answer must have."""
    found = value.get(name)
    if not isinstance(found, str) or not found:
        raise CallFailed(f"the Batch API's answer has no {name}", code="broken_body", billed=True)
    return found


def identifier(value: Mapping[str, Any], name: str) -> str:
    """An id that an answer must have, and that may stand in an address."""
    found = text(value, name)
    if not _ID.fullmatch(found) or ".." in found:
        raise CallFailed(f"the Batch API's answer has no usable {name}", code="broken_body", billed=True)
    return found


def optional(value: Mapping[str, Any], name: str) -> str:
    """A text that an answer may have; '' if it hasn't."""
    found = value.get(name)
    return found if isinstance(found, str) else ""


def rows(value: Mapping[str, Any], *names: str) -> list[dict[str, Any]]:
    """The objects of a list in an answer, under the first of these names that it has."""
    for name in names:
        found = value.get(name)
        if isinstance(found, list):
            return [each for each in found if isinstance(each, dict)]
    return []


def _bounded(reply: httpx.Response) -> bytes:
    """The whole body. Raises CallFailed if it is too large or too slow."""
    ends, found = time.monotonic() + WHOLE, bytearray()
    for piece in reply.iter_bytes():
        found += piece
        if len(found) > LARGEST_ANSWER or time.monotonic() > ends:
            raise CallFailed("the Batch API's answer is too large or too slow", code="too_slow", billed=True)
    return bytes(found)


def _lost(exc: httpx.HTTPError, *, sent: bool) -> ProviderError:
    """The error of a request without an answer. If it may have arrived, `billed` is set."""
    return Interrupted(f"the Batch API did not answer: {type(exc).__name__}", code="no_answer", billed=sent)
