"""Mistral's Batch API: jobs with one model, over files of OpenAI's shape.

https://docs.mistral.ai/studio-api/batch-processing, November 2026: a million requests in the queue of a workspace, and
up to 168 hours a job, which `timeout_hours` sets.
"""

from collections.abc import Mapping
from typing import Any, ClassVar, Final

import orjson

from workers.providers.batch_api import ChunkFile, Limits, NotListed, Phase, ProviderBatch
from workers.providers.batch_http import identifier, optional, rows, text
from workers.providers.batch_openai import MARK, PAGE, PAGES, OpenAIBatches, is_older
from workers.providers.endpoints import CHAT, EMBEDDINGS

#: What the states mean; any other runs.
_PHASES: Final[Mapping[str, Phase]] = {
    "SUCCESS": "ended",
    "TIMEOUT_EXCEEDED": "ended",
    "CANCELLED": "ended",
    "FAILED": "failed",
}


class MistralBatches(OpenAIBatches):
    """Mistral's Batch API."""

    urls: ClassVar[frozenset[str]] = frozenset({CHAT, EMBEDDINGS})
    limits = Limits(requests=1_000_000, bytes=200_000_000, queued_requests=1_000_000)
    batches_path: ClassVar[str] = "/batch/jobs"
    expiry: ClassVar[Mapping[str, str]] = {}

    def check(self, key: str) -> None:
        self.http.ask("GET", self.batches_path, key, common=True, query={"page_size": "1"})

    def encode(self, custom_id: str, url: str, body: dict[str, Any]) -> bytes | None:  # noqa: ARG002  # the job has it
        if body.get("stream"):
            return None
        body = {name: value for name, value in body.items() if name != "model"}
        return orjson.dumps({"custom_id": custom_id, "body": body}) + b"\n"

    def order(self, file_id: str, file: ChunkFile) -> dict[str, Any]:
        return {
            "input_files": [file_id],
            "endpoint": file.url,
            "model": file.model,
            "metadata": {MARK: file.chunk},
            "timeout_hours": 24,
        }

    def find(self, key: str, file_id: str, file: ChunkFile, since: float = 0.0) -> ProviderBatch | None:
        for number in range(PAGES):
            query = {"page": str(number), "page_size": str(PAGE), "order_by": "-created"}
            found = rows(self.http.ask("GET", self.batches_path, key, query=query), "data")
            for each in found:
                mark, files = each.get("metadata"), each.get("input_files")
                marked = isinstance(mark, dict) and mark.get(MARK) == file.chunk
                if marked or (file_id and isinstance(files, list) and file_id in files):
                    return self.shown(each)
            if len(found) < PAGE or is_older(found[-1].get("created_at"), since):
                return None
        raise NotListed("the list of provider batches is too long", code="not_listed")

    def shown(self, value: dict[str, Any]) -> ProviderBatch:
        state = text(value, "status")
        phase = _PHASES.get(state, "running")
        files = tuple(identifier(value, name) for name in ("output_file", "error_file") if optional(value, name))
        if state == "SUCCESS" and value.get("succeeded_requests") and not optional(value, "output_file"):
            phase = "running"  # the file's id may come later than the state
        if phase == "failed" and files:
            phase = "ended"  # some of its lines were run
        errors = rows(value, "errors")
        message = optional(errors[0], "message")[:300] if errors and phase == "failed" else ""
        finished = value.get("completed_requests")
        return ProviderBatch(
            identifier(value, "id"),
            state,
            phase,
            files,
            "failed" if phase == "failed" else "",
            message,
            finished=finished if isinstance(finished, int) else None,
        )
