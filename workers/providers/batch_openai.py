"""OpenAI's Batch API, which Groq, vLLM-like servers and others have too: `/files` and `/batches`.

https://platform.openai.com/docs/api-reference/batch, November 2026: 50,000 requests and 200 MB a provider batch. Its
input tokens count against a limit of the model until it has ended. A batch above that limit is created and then fails.
"""

import logging
import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from http import HTTPStatus
from typing import Any, ClassVar, Final
from uuid import uuid4

import httpx
import orjson

from workers.providers.answer import Answer
from workers.providers.batch_api import BatchApi, Limits, Phase, ProviderBatch, Result
from workers.providers.decoding import decode
from workers.providers.endpoints import CHAT, EMBEDDINGS, RESPONSES
from workers.providers.errors import CallFailed, Interrupted, ProviderError
from workers.providers.failures import classify
from workers.providers.http_provider import versioned
from workers.providers.openai import OpenAI

# It logs every request at INFO.
logging.getLogger("httpx").setLevel(logging.WARNING)

#: The metadata that marks a chunk's provider batch.
MARK: Final = "overnight_chunk"

#: Provider batches in a page of the list, and pages that are read.
_PAGE: Final = 100
_PAGES: Final = 20

#: Seconds that an input file and the results are kept: longer than any provider batch takes.
_KEPT: Final = 14 * 86_400

#: What the states mean; any other runs. Together writes them in capitals.
_PHASES: Final[Mapping[str, Phase]] = {
    "completed": "ended",
    "expired": "ended",
    "cancelled": "ended",
    "failed": "failed",
}

#: Codes of a batch that failed for a reason that passes.
_FOR_NOW: Final = frozenset({"token_limit_exceeded", "rate_limit_exceeded", "server_error"})

_LIMIT: Final = re.compile(r"[Ll]imit(?: of|:)? ([\d,.]+)\s?([KMB]?)\b")
_UNITS: Final = {"": 1, "K": 1_000, "M": 1_000_000, "B": 1_000_000_000}

#: Seconds to wait for each piece of an upload or a download.
_TRANSFER: Final = 60.0


class OpenAIBatches(BatchApi):
    """The Batch API of OpenAI, and of servers of its shape."""

    urls: ClassVar[frozenset[str]] = frozenset({CHAT, RESPONSES, EMBEDDINGS})
    limits = Limits(requests=50_000, bytes=200_000_000)

    def __init__(self, name: str, base_url: str, timeout: float) -> None:
        self.name = name
        self._base = versioned(base_url)
        self._timeout = httpx.Timeout(min(timeout, _TRANSFER), connect=15.0)
        self._client: httpx.Client | None = None
        self._provider = OpenAI(name, base_url, timeout)

    @property
    def _http(self) -> httpx.Client:
        self._client = self._client or httpx.Client(timeout=self._timeout)
        return self._client

    def close(self) -> None:
        client, self._client = self._client, None
        if client is not None:
            client.close()

    def encode(self, custom_id: str, url: str, body: dict[str, Any]) -> bytes | None:
        return orjson.dumps({"custom_id": custom_id, "method": "POST", "url": url, "body": body}) + b"\n"

    def upload(self, key: str, name: str, size: int, read: Callable[[], Iterable[bytes]]) -> str:
        boundary = uuid4().hex
        head = _form(
            boundary, {"purpose": "batch", "expires_after[anchor]": "created_at", "expires_after[seconds]": _KEPT}
        )
        head += (
            f'--{boundary}\r\nContent-Disposition: form-data; name="file"; filename="{name}"\r\n'
            "Content-Type: application/jsonl\r\n\r\n"
        ).encode()
        tail = f"\r\n--{boundary}--\r\n".encode()

        def content() -> Iterator[bytes]:
            yield head
            yield from read()
            yield tail

        headers = {
            "content-type": f"multipart/form-data; boundary={boundary}",
            "content-length": str(len(head) + size + len(tail)),
        }
        return _text(self._ask("POST", "/files", key, content=content(), headers=headers), "id")

    def create(self, key: str, file_id: str, url: str, chunk: str) -> ProviderBatch:
        body = {"input_file_id": file_id, "endpoint": url, "completion_window": "24h", "metadata": {MARK: chunk}}
        return self._batch(self._ask("POST", "/batches", key, json=body))

    def find(self, key: str, file_id: str, chunk: str) -> ProviderBatch | None:
        after = ""
        for _ in range(_PAGES):
            query = {"limit": str(_PAGE)} | ({"after": after} if after else {})
            page = self._ask("GET", "/batches", key, params=query)
            found = page.get("data")
            rows = [each for each in found if isinstance(each, dict)] if isinstance(found, list) else []
            for each in rows:
                mark = each.get("metadata")
                marked = isinstance(mark, dict) and mark.get(MARK) == chunk
                if marked or (file_id and each.get("input_file_id") == file_id):
                    return self._batch(each)
            if not page.get("has_more") or not rows:
                return None
            after = _text(rows[-1], "id")
        return None

    def get(self, key: str, batch_id: str) -> ProviderBatch:
        return self._batch(self._ask("GET", f"/batches/{batch_id}", key))

    def cancel(self, key: str, batch_id: str) -> ProviderBatch:
        try:
            return self._batch(self._ask("POST", f"/batches/{batch_id}/cancel", key))
        except ProviderError as error:
            if error.status not in {HTTPStatus.BAD_REQUEST, HTTPStatus.CONFLICT}:
                raise
            return self.get(key, batch_id)  # it has ended meanwhile

    def download(self, key: str, file_id: str) -> Iterator[bytes]:
        try:
            with self._http.stream("GET", f"{self._base}/files/{file_id}/content", headers=_auth(key)) as reply:
                if reply.status_code >= HTTPStatus.MULTIPLE_CHOICES:
                    raise self._error(reply, reply.read(), key)
                yield from reply.iter_bytes(1 << 20)
        except httpx.HTTPError as exc:
            raise _lost(exc, sent=False) from None

    def remove(self, key: str, file_id: str) -> None:
        self._ask("DELETE", f"/files/{file_id}", key)

    def read(self, line: bytes) -> Result | None:
        try:
            value = orjson.loads(line)
        except orjson.JSONDecodeError:
            return None
        if not isinstance(value, dict) or not isinstance(value.get("custom_id"), str):
            return None
        response = value.get("response")
        status = response.get("status_code") if isinstance(response, dict) else None
        if not isinstance(status, int) or not HTTPStatus.OK <= status < 600 or not isinstance(response, dict):  # noqa: PLR2004
            return Result(value["custom_id"], None)
        request_id = response.get("request_id")
        body = orjson.dumps(response.get("body"))
        return Result(value["custom_id"], status, body, request_id if isinstance(request_id, str) else None)

    def answer(self, url: str, result: Result) -> Answer:
        return self._provider.read(url, result.status or 0, result.content)

    def _ask(
        self, method: str, path: str, key: str, *, headers: dict[str, str] | None = None, **more: Any
    ) -> dict[str, Any]:
        """One request; its answer, a JSON object. Raises a ProviderError otherwise."""
        try:
            reply = self._http.request(method, self._base + path, headers={**_auth(key), **(headers or {})}, **more)
        except (httpx.ConnectError, httpx.ConnectTimeout) as exc:
            raise _lost(exc, sent=False) from None
        except httpx.HTTPError as exc:
            raise _lost(exc, sent=True) from None
        if reply.status_code >= HTTPStatus.MULTIPLE_CHOICES:
            raise self._error(reply, reply.content, key)
        value = decode(reply.content)
        if not isinstance(value, dict):
            raise CallFailed("the Batch API's answer is no JSON object", code="broken_body", billed=True)
        return value

    def _error(self, reply: httpx.Response, content: bytes, key: str) -> ProviderError:
        headers = {name.lower(): value for name, value in reply.headers.items()}
        return classify(reply.status_code, headers, decode(content), provider=self.name, key=key, now=time.time())

    def _batch(self, value: dict[str, Any]) -> ProviderBatch:
        state = _text(value, "status")
        phase = _PHASES.get(state.lower(), "running")
        files = tuple(found for name in ("output_file_id", "error_file_id") if (found := _optional(value, name)))
        counts = value.get("request_counts")
        finished = counts.get("completed") or 0 if isinstance(counts, dict) else 0
        if state.lower() == "completed" and finished and not _optional(value, "output_file_id"):
            phase = "running"  # the file's id may come later than the state
        code, message = _failure(value) if phase == "failed" else ("", "")
        return ProviderBatch(
            _text(value, "id"),
            state,
            phase,
            files,
            code,
            message,
            _limit(message) if code == "token_limit_exceeded" else None,
            code in _FOR_NOW,
        )


def _auth(key: str) -> dict[str, str]:
    return {"authorization": f"Bearer {key}"} if key else {}


def _form(boundary: str, values: Mapping[str, Any]) -> bytes:
    return b"".join(
        f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'.encode()
        for name, value in values.items()
    )


def _lost(exc: httpx.HTTPError, *, sent: bool) -> ProviderError:
    """The error of a request without an answer. If it may have arrived, `billed` is set."""
    return Interrupted(f"the Batch API did not answer: {type(exc).__name__}", code="no_answer", billed=sent)


def _text(value: Mapping[str, Any], name: str) -> str:
    found = value.get(name)
    if not isinstance(found, str) or not found:
        raise CallFailed(f"the Batch API's answer has no {name}", code="broken_body", billed=True)
    return found


def _optional(value: Mapping[str, Any], name: str) -> str:
    found = value.get(name)
    return found if isinstance(found, str) else ""


def _failure(value: Mapping[str, Any]) -> tuple[str, str]:
    errors = value.get("errors")
    rows = errors.get("data") if isinstance(errors, dict) else None
    first = rows[0] if isinstance(rows, list) and rows and isinstance(rows[0], dict) else {}
    return _optional(first, "code") or "failed", _optional(first, "message")[:300]


def _limit(message: str) -> int:
    """The tokens that a refusal names; 0 if it names none."""
    found = _LIMIT.search(message)
    if found is None:
        return 0
    return int(float(found[1].replace(",", "").rstrip(".") or 0) * _UNITS[found[2]])
