"""Anthropic's Message Batches: the lines are in the create itself, and a provider batch has no name.

https://platform.claude.com/docs/en/build-with-claude/batch-processing, November 2026: 100,000 requests or 256 MB a
provider batch, 200,000 requests in the queue of the lowest tier. Its list has nothing to match but the time and the
number of lines. So each line's custom_id carries the chunk's id, and `find` reads the first result of what has ended.
"""

from collections.abc import Iterable, Iterator
from datetime import datetime
from http import HTTPStatus
from typing import Any, ClassVar, Final

import orjson

from workers.providers.answer import Answer
from workers.providers.anthropic import API_VERSION, Anthropic
from workers.providers.batch_api import BatchApi, ChunkFile, Limits, NotListed, ProviderBatch, Result
from workers.providers.batch_http import BatchHttp, check, identifier, optional, rows, text, timely
from workers.providers.batch_openai import PAGE, PAGES, is_older
from workers.providers.endpoints import MESSAGES
from workers.providers.error_body import read_error
from workers.providers.errors import ProviderError
from workers.providers.http_provider import versioned

_PATH: Final = "/messages/batches"

#: How a line begins, up to its custom_id.
_BEGIN: Final = b'{"custom_id":"'

#: A provider batch that was created within this time around a create may be its. Seconds.
_AROUND: Final = 120.0

#: Fields that Message Batches refuse.
_REFUSED: Final = ("stream", "speed")


class AnthropicBatches(BatchApi):
    """Anthropic's Message Batches. A provider batch is its own file of results."""

    urls: ClassVar[frozenset[str]] = frozenset({MESSAGES})
    limits = Limits(requests=100_000, bytes=64_000_000, queued_requests=200_000, line_bytes=32_000_000)
    create_time: ClassVar[float] = 300.0

    def __init__(self, name: str, base_url: str, timeout: float, api_version: str | None = None) -> None:
        version = api_version or API_VERSION
        self.http = BatchHttp(
            name, versioned(base_url), timeout, lambda key: {"x-api-key": key, "anthropic-version": version}
        )
        self.provider = Anthropic(name, base_url, timeout, api_version=api_version)

    def close(self) -> None:
        self.http.close()

    def check(self, key: str) -> None:
        self.http.ask("GET", _PATH, key, common=True, query={"limit": "1"})

    def encode(self, custom_id: str, url: str, body: dict[str, Any]) -> bytes | None:
        if url != MESSAGES or any(body.get(name) for name in _REFUSED) or not body.get("max_tokens"):
            return None
        return orjson.dumps({"custom_id": custom_id, "params": body}) + b"\n"

    def upload(self, key: str, file: ChunkFile) -> str:  # noqa: ARG002  # lines go with the create
        return ""

    def create(self, key: str, file_id: str, file: ChunkFile) -> ProviderBatch:  # noqa: ARG002  # there is no file
        begin, end, prefix = b'{"requests":[', b"]}", f"{file.chunk}-".encode()

        def content() -> Iterator[bytes]:
            check(file.may_create)
            yield begin
            for index, line in enumerate(_lines(file.read())):
                yield (b"," if index else b"") + _BEGIN + prefix + line[len(_BEGIN) :]
            yield end

        # Each line loses its line end, and all but the first get a comma.
        size = len(begin) + file.size + file.lines * len(prefix) - 1 + len(end)
        headers = {"content-type": "application/json", "content-length": str(size)}
        pieces = timely(content(), self.create_time)
        return self._shown(self.http.ask("POST", _PATH, key, common=True, content=pieces, headers=headers))

    def find(self, key: str, file_id: str, file: ChunkFile, since: float = 0.0) -> ProviderBatch | None:  # noqa: ARG002
        after, undecided = "", False
        for _ in range(PAGES):
            query = {"limit": str(PAGE)} | ({"after_id": after} if after else {})
            page = self.http.ask("GET", _PATH, key, query=query)
            found = rows(page, "data")
            for each in found:
                if not self._may_be(each, file, since):
                    continue
                batch = self._shown(each)
                if batch.phase == "running":
                    undecided = True
                elif self._is_of(key, batch, file):
                    return batch
            if not page.get("has_more") or not found or is_older(found[-1].get("created_at"), since):
                break
            after = text(found[-1], "id")
        else:
            undecided = True
        if undecided:
            raise NotListed("a provider batch that may be the chunk's has not ended yet", code="not_listed")
        return None

    def _may_be(self, value: dict[str, Any], file: ChunkFile, since: float) -> bool:
        """Whether a provider batch may be a chunk's, by its time and its number of lines."""
        counts = value.get("request_counts")
        total = sum(each for each in counts.values() if isinstance(each, int)) if isinstance(counts, dict) else None
        if total is not None and total != file.lines:
            return False
        try:
            created = datetime.fromisoformat(optional(value, "created_at")).timestamp()
        except ValueError:
            return True
        return not since or since - _AROUND <= created <= since + self.create_time + _AROUND

    def _is_of(self, key: str, batch: ProviderBatch, file: ChunkFile) -> bool:
        """Whether the first result that can be read is one of the chunk's."""
        for file_id in batch.files:
            for line in _lines(self.http.download(f"{_PATH}/{file_id}/results", key)):
                if (name := _custom_id(line)) is not None:
                    return name.startswith(f"{file.chunk}-")
        return False

    def get(self, key: str, batch_id: str) -> ProviderBatch:
        return self._shown(self.http.ask("GET", f"{_PATH}/{batch_id}", key))

    def cancel(self, key: str, batch_id: str) -> ProviderBatch:
        try:
            return self._shown(self.http.ask("POST", f"{_PATH}/{batch_id}/cancel", key))
        except ProviderError as error:
            if error.status not in {HTTPStatus.BAD_REQUEST, HTTPStatus.CONFLICT}:
                raise
            return self.get(key, batch_id)  # it has ended by now

    def download(self, key: str, file_id: str) -> Iterator[bytes]:
        # Not by `results_url`: a key goes to the configured address only.
        return self.http.download(f"{_PATH}/{file_id}/results", key)

    def remove(self, key: str, file_id: str) -> None:
        if not file_id:
            return
        try:
            self.http.ask("DELETE", f"{_PATH}/{file_id}", key)
        except ProviderError as error:
            if error.status != HTTPStatus.NOT_FOUND:
                raise

    def read(self, line: bytes) -> Result | None:
        name = _custom_id(line)
        result = orjson.loads(line).get("result") if name is not None else None
        if name is None or not isinstance(result, dict):
            return None
        custom_id = name.rpartition("-")[2]
        match result.get("type"):
            case "succeeded" if isinstance(result.get("message"), dict):
                return Result(custom_id, HTTPStatus.OK, orjson.dumps(result["message"]))
            case "errored":
                error = result.get("error")
                status = read_error(error, key="").stated_status or HTTPStatus.INTERNAL_SERVER_ERROR
                return Result(custom_id, status, orjson.dumps(error))
            case "canceled" | "expired":
                return Result(custom_id, None)
        return None

    def answer(self, url: str, result: Result) -> Answer:
        return self.provider.read(url, result.status or 0, result.content)

    def _shown(self, value: dict[str, Any]) -> ProviderBatch:
        batch_id, state = identifier(value, "id"), text(value, "processing_status")
        ready = bool(optional(value, "results_url") or optional(value, "archived_at"))
        counts = value.get("request_counts")
        ended = [each for name, each in counts.items() if name != "processing"] if isinstance(counts, dict) else []
        return ProviderBatch(
            batch_id,
            state,
            "ended" if state == "ended" and ready else "running",
            (batch_id,) if ready else (),
            finished=sum(each for each in ended if isinstance(each, int)),
        )


def _custom_id(line: bytes) -> str | None:
    try:
        value = orjson.loads(line)
    except orjson.JSONDecodeError:
        return None
    name = value.get("custom_id") if isinstance(value, dict) else None
    return name if isinstance(name, str) else None


def _lines(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """The lines in a stream of bytes, without their ends."""
    rest = b""
    for piece in pieces:
        *whole, rest = (rest + piece).split(b"\n")
        yield from (line for line in whole if line)
    if rest:
        yield rest
