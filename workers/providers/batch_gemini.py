"""Gemini's Batch API: chats are translated there and back (gemini_chat.py).

https://ai.google.dev/gemini-api/docs/batch-api, November 2026: 2 GB a file, 100 provider batches at a time, a limit of
enqueued tokens a model. A provider batch that has not ended after 48 hours expires without any results.
"""

from collections.abc import Iterator, Mapping
from http import HTTPStatus
from typing import Any, ClassVar, Final

import httpx
import orjson

from workers.providers.answer import Answer
from workers.providers.batch_api import BatchApi, ChunkFile, Limits, NotListed, Phase, ProviderBatch, Result
from workers.providers.batch_http import TRANSFER, BatchHttp, fenced, identifier, optional, rows, timely
from workers.providers.batch_openai import PAGE, PAGES
from workers.providers.endpoints import CHAT
from workers.providers.errors import CallFailed, ProviderError
from workers.providers.gemini_chat import NotCarried, chat_of, request_of
from workers.providers.openai import OpenAI

_VERSION: Final = "/v1beta"
_BATCHES: Final = f"{_VERSION}/batches"

#: What the states mean, after BATCH_STATE_ or JOB_STATE_; any other runs.
_PHASES: Final[Mapping[str, Phase]] = {
    "SUCCEEDED": "ended",
    "PARTIALLY_SUCCEEDED": "ended",
    "CANCELLED": "ended",
    "EXPIRED": "ended",
    "FAILED": "failed",
}

#: Statuses of Google's error codes (https://github.com/googleapis/googleapis/blob/master/google/rpc/code.proto).
_STATUSES: Final = {3: 400, 4: 504, 5: 404, 7: 403, 8: 429, 9: 400, 10: 409, 11: 400, 14: 503, 16: 401}

#: Google's code of a line that was cancelled.
_CANCELLED: Final = 1

#: HTTP statuses begin here: some errors have one as their code.
_HTTP: Final = 400


class GeminiBatches(BatchApi):
    """Gemini's native Batch API, for lines of chat completions."""

    urls: ClassVar[frozenset[str]] = frozenset({CHAT})
    # Small ones: provider batches have been stuck for days.
    limits = Limits(requests=20_000, bytes=200_000_000, jobs=100)

    def __init__(self, name: str, base_url: str, timeout: float) -> None:
        root = base_url.partition("/v1")[0].rstrip("/")
        self.http = BatchHttp(name, root, timeout, lambda key: {"x-goog-api-key": key})
        self.provider = OpenAI(name, base_url, timeout)

    def close(self) -> None:
        self.http.close()

    def check(self, key: str) -> None:
        self.http.ask("GET", _BATCHES, key, common=True, query={"pageSize": "1"})

    def encode(self, custom_id: str, url: str, body: dict[str, Any]) -> bytes | None:
        if url != CHAT:
            return None
        try:
            return orjson.dumps({"key": custom_id, "request": request_of(body)}) + b"\n"
        except NotCarried:
            return None

    def upload(self, key: str, file: ChunkFile) -> str:
        # A resumable upload in one piece: it may be of any size.
        headers = {
            "x-goog-upload-protocol": "resumable",
            "x-goog-upload-command": "start",
            "x-goog-upload-header-content-length": str(file.size),
            "x-goog-upload-header-content-type": "application/jsonl",
        }
        about = {"file": {"display_name": file.chunk, "mime_type": "application/jsonl"}}
        path = f"/upload{_VERSION}/files"
        _, said = self.http.exchange("POST", path, key, common=True, json=about, headers=headers)
        address = said.get("x-goog-upload-url")
        if not address:
            raise CallFailed("the Batch API names no address for an upload", code="broken_body")
        headers = {
            "x-goog-upload-offset": "0",
            "x-goog-upload-command": "upload, finalize",
            "content-length": str(file.size),
        }
        pieces = timely(file.read(), TRANSFER)
        answer = self.http.ask("POST", address, key, content=pieces, headers=headers)
        found = answer.get("file")
        return identifier(found if isinstance(found, dict) else {}, "name")

    def create(self, key: str, file_id: str, file: ChunkFile) -> ProviderBatch:
        model = httpx.URL(path=f"/{file.model.removeprefix('models/')}").raw_path.decode()
        path = f"{_VERSION}/models{model}:batchGenerateContent"
        body = {"batch": {"displayName": file.chunk, "inputConfig": {"fileName": file_id}}}
        content, headers = fenced(body, file.may_create)
        return self._shown(self.http.ask("POST", path, key, common=True, content=content, headers=headers))

    def find(self, key: str, file_id: str, file: ChunkFile, since: float = 0.0) -> ProviderBatch | None:  # noqa: ARG002
        token = ""
        for _ in range(PAGES):
            query = {"pageSize": str(PAGE)} | ({"pageToken": token} if token else {})
            page = self.http.ask("GET", _BATCHES, key, query=query)
            for each in rows(page, "operations", "batches"):
                about = _about(each)
                given = about.get("inputConfig")
                same_file = isinstance(given, dict) and bool(file_id) and given.get("fileName") == file_id
                if about.get("displayName") == file.chunk or same_file:
                    return self._shown(each)
            if not (token := optional(page, "nextPageToken")):
                return None
        raise NotListed("the list of provider batches is too long", code="not_listed")

    def get(self, key: str, batch_id: str) -> ProviderBatch:
        return self._shown(self.http.ask("GET", f"{_VERSION}/{batch_id}", key))

    def cancel(self, key: str, batch_id: str) -> ProviderBatch:
        try:
            self.http.ask("POST", f"{_VERSION}/{batch_id}:cancel", key)
        except ProviderError as error:
            if error.status not in {HTTPStatus.BAD_REQUEST, HTTPStatus.CONFLICT}:
                raise
        return self.get(key, batch_id)

    def download(self, key: str, file_id: str) -> Iterator[bytes]:
        return self.http.download(f"/download{_VERSION}/{file_id}:download", key, {"alt": "media"})

    def remove(self, key: str, file_id: str) -> None:
        try:
            self.http.ask("DELETE", f"{_VERSION}/{file_id}", key)
        except ProviderError as error:
            # Google answers 403 for a file that is gone.
            if error.status not in {HTTPStatus.NOT_FOUND, HTTPStatus.FORBIDDEN}:
                raise

    def read(self, line: bytes) -> Result | None:
        try:
            value = orjson.loads(line)
        except orjson.JSONDecodeError:
            return None
        if not isinstance(value, dict) or not isinstance(value.get("key"), str):
            return None
        response, error = value.get("response"), value.get("error")
        if isinstance(response, dict):
            return Result(value["key"], HTTPStatus.OK, orjson.dumps(chat_of(response)))
        if not isinstance(error, dict):
            return None
        code = error.get("code")
        if code == _CANCELLED:
            return Result(value["key"], None)
        status = code if isinstance(code, int) and _HTTP <= code < 600 else _STATUSES.get(code or 0, 500)  # noqa: PLR2004
        return Result(value["key"], status, orjson.dumps({"error": error}))

    def answer(self, url: str, result: Result) -> Answer:
        return self.provider.read(url, result.status or 0, result.content)

    def _shown(self, value: dict[str, Any]) -> ProviderBatch:
        about = _about(value)
        state = optional(about, "state")
        phase = _PHASES.get(state.removeprefix("BATCH_STATE_").removeprefix("JOB_STATE_"), "running")
        holders = (value.get("response"), about.get("output"), about.get("dest"))
        named = (
            identifier(each, name)
            for each in holders
            if isinstance(each, dict)
            for name in ("responsesFile", "fileName")
            if optional(each, name)
        )
        files = tuple(named)[:1]
        if state.endswith("_SUCCEEDED") and not files:
            phase = "running"  # the file's name may come later than the state
        if phase == "failed" and files:
            phase = "ended"  # some of its lines were run
        error = value.get("error") or about.get("error")
        message = optional(error, "message")[:300] if isinstance(error, dict) and phase == "failed" else ""
        return ProviderBatch(
            identifier(value, "name"), state, phase, files, "failed" if phase == "failed" else "", message
        )


def _about(value: Mapping[str, Any]) -> Mapping[str, Any]:
    """What describes a provider batch: an operation's metadata, or the object itself."""
    about = value.get("metadata")
    return about if isinstance(about, dict) else value
