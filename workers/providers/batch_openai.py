"""OpenAI's Batch API, which Groq, vLLM-like servers and others have too: `/files` and `/batches`.

https://platform.openai.com/docs/api-reference/batch, November 2026: 50,000 requests (or texts to embed) and 200 MB a
provider batch, and 2,000 creates an hour. Its input tokens count against a limit of the model until it has ended. A
batch above that limit is created and then fails.
"""

import re
from collections.abc import Iterator, Mapping
from datetime import datetime
from http import HTTPStatus
from typing import Any, ClassVar, Final
from uuid import uuid4

import orjson

from workers.providers.answer import Answer
from workers.providers.batch_api import BatchApi, ChunkFile, Limits, NotListed, Phase, ProviderBatch, Result
from workers.providers.batch_http import BatchHttp, fenced, form, identifier, optional, rows, text
from workers.providers.endpoints import CHAT, EMBEDDINGS, RESPONSES
from workers.providers.errors import ProviderError
from workers.providers.http_provider import versioned
from workers.providers.openai import OpenAI

#: The metadata that marks a chunk's provider batch.
MARK: Final = "overnight_chunk"

#: Provider batches in a page of the list, and pages that are read.
PAGE: Final = 100
PAGES: Final = 50

#: A provider's clock may differ from ours by this much. Seconds.
SKEW: Final = 900.0

#: Seconds that an input file and the results are kept: longer than any provider batch takes.
_KEPT: Final = 14 * 86_400

#: What the states mean; any other runs. Together writes them in capitals.
_PHASES: Final[Mapping[str, Phase]] = {
    "completed": "ended",
    "expired": "ended",
    "cancelled": "ended",
    "canceled": "ended",
    "failed": "failed",
}

#: Codes of a batch that failed for a reason that passes.
_FOR_NOW: Final = frozenset({"token_limit_exceeded", "rate_limit_exceeded", "server_error"})

#: How OpenAI ("Limit: 90,000 enqueued tokens") and Azure ("the configured limit of 30K") name the queue's limit.
_LIMIT: Final = re.compile(r"[Ll]imit(?: of|:)? ([\d,.]+)\s?([KMB]?)\b")
_UNITS: Final = {"": 1, "K": 1_000, "M": 1_000_000, "B": 1_000_000_000}
_ENQUEUED: Final = re.compile(r"enqueued tokens?", re.IGNORECASE)


class OpenAIBatches(BatchApi):
    """The Batch API of OpenAI, and of servers of its shape."""

    urls: ClassVar[frozenset[str]] = frozenset({CHAT, RESPONSES, EMBEDDINGS})
    limits = Limits(requests=50_000, bytes=200_000_000, creates_an_hour=2_000, embedded=50_000)
    files_path: ClassVar[str] = "/files"
    upload_path: ClassVar[str] = "/files"
    batches_path: ClassVar[str] = "/batches"
    purpose: ClassVar[str] = "batch"
    expiry: ClassVar[Mapping[str, str]] = {
        "expires_after[anchor]": "created_at",
        "expires_after[seconds]": str(_KEPT),
    }
    """The fields of an upload that let the provider delete the file by itself."""

    def __init__(self, name: str, base_url: str, timeout: float) -> None:
        self.name = name
        self.http = BatchHttp(name, versioned(base_url), timeout, self.headers)
        self.provider = OpenAI(name, base_url, timeout)

    def headers(self, key: str) -> dict[str, str]:
        """The headers that carry the key."""
        return {"authorization": f"Bearer {key}"} if key else {}

    def close(self) -> None:
        self.http.close()

    def check(self, key: str) -> None:
        self.http.ask("GET", self.batches_path, key, common=True, query={"limit": "1"})

    def encode(self, custom_id: str, url: str, body: dict[str, Any]) -> bytes | None:
        if body.get("stream"):
            return None
        return orjson.dumps({"custom_id": custom_id, "method": "POST", "url": url, "body": body}) + b"\n"

    def upload(self, key: str, file: ChunkFile) -> str:
        headers, content = form(
            {"purpose": self.purpose, **self.expiry}, (f"{file.chunk}.jsonl", file.size, file.read()), uuid4().hex
        )
        answer = self.http.ask("POST", self.upload_path, key, common=True, content=content, headers=headers)
        return identifier(answer, "id")

    def create(self, key: str, file_id: str, file: ChunkFile) -> ProviderBatch:
        body = self.order(file_id, file)
        content, headers = fenced(body, file.may_create)
        return self.shown(self.http.ask("POST", self.batches_path, key, common=True, content=content, headers=headers))

    def order(self, file_id: str, file: ChunkFile) -> dict[str, Any]:
        """What creates a chunk's provider batch."""
        return {
            "input_file_id": file_id,
            "endpoint": file.url,
            "completion_window": "24h",
            "metadata": {MARK: file.chunk},
        }

    def find(self, key: str, file_id: str, file: ChunkFile, since: float = 0.0) -> ProviderBatch | None:
        after = ""
        for _ in range(PAGES):
            query = {"limit": str(PAGE)} | ({"after": after} if after else {})
            page = self.http.ask("GET", self.batches_path, key, query=query)
            found = rows(page, "data", "value")
            for each in found:
                mark = each.get("metadata")
                marked = isinstance(mark, dict) and mark.get(MARK) == file.chunk
                if marked or (file_id and each.get("input_file_id") == file_id):
                    return self.shown(each)
            if not page.get("has_more") or not found or is_older(found[-1].get("created_at"), since):
                return None
            after = text(found[-1], "id")
        raise NotListed("the list of provider batches is too long", code="not_listed")

    def get(self, key: str, batch_id: str) -> ProviderBatch:
        return self.shown(self.http.ask("GET", f"{self.batches_path}/{batch_id}", key))

    def cancel(self, key: str, batch_id: str) -> ProviderBatch:
        try:
            return self.shown(self.http.ask("POST", f"{self.batches_path}/{batch_id}/cancel", key))
        except ProviderError as error:
            if error.status not in {HTTPStatus.BAD_REQUEST, HTTPStatus.CONFLICT}:
                raise
            return self.get(key, batch_id)  # it has ended by now

    def download(self, key: str, file_id: str) -> Iterator[bytes]:
        return self.http.download(f"{self.files_path}/{file_id}/content", key)

    def remove(self, key: str, file_id: str) -> None:
        try:
            self.http.ask("DELETE", f"{self.files_path}/{file_id}", key)
        except ProviderError as error:
            if error.status != HTTPStatus.NOT_FOUND:
                raise

    def read(self, line: bytes) -> Result | None:
        return read_result(line)

    def answer(self, url: str, result: Result) -> Answer:
        return self.provider.read(url, result.status or 0, result.content)

    def shown(self, value: dict[str, Any]) -> ProviderBatch:
        """A provider batch, from the object that describes it."""
        state = text(value, "status")
        phase = _PHASES.get(state.lower(), "running")
        files = tuple(identifier(value, name) for name in ("output_file_id", "error_file_id") if optional(value, name))
        counts = value.get("request_counts")
        counts = counts if isinstance(counts, dict) else {}
        completed, failed = (_count(counts.get(name)) for name in ("completed", "failed"))
        if state.lower() == "completed" and (not files or (completed and not optional(value, "output_file_id"))):
            phase = "running"  # a file's id may come later than the state
        code, message = _failure(value) if phase == "failed" else ("", "")
        full = code == "token_limit_exceeded" or bool(_ENQUEUED.search(message))
        return ProviderBatch(
            identifier(value, "id"),
            state,
            phase,
            files,
            code,
            message,
            enqueued_limit(message) if full else None,
            full or code in _FOR_NOW,
            completed + failed if counts else None,
        )


def read_result(line: bytes) -> Result | None:
    """A line of a result file of OpenAI's shape; None if it cannot be read."""
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


def is_older(created: Any, since: float) -> bool:
    """Whether a provider batch was created well before `since`. `created`: seconds since the epoch, or ISO 8601."""
    if isinstance(created, str):
        try:
            created = datetime.fromisoformat(created).timestamp()
        except ValueError:
            return False
    return isinstance(created, int | float) and created < since - SKEW


def enqueued_limit(message: str) -> int:
    """The tokens that a refusal names; 0 if it names none."""
    found = _LIMIT.search(message)
    if found is None:
        return 0
    try:
        return int(float(found[1].replace(",", "").rstrip(".") or 0) * _UNITS[found[2]])
    except ValueError:
        return 0


def _count(value: Any) -> int:
    return value if isinstance(value, int) and value >= 0 else 0


def _failure(value: Mapping[str, Any]) -> tuple[str, str]:
    errors = value.get("errors")
    found = rows(errors, "data") if isinstance(errors, dict) else []
    first = found[0] if found else {}
    return optional(first, "code") or "failed", optional(first, "message")[:300] or optional(value, "error")[:300]
