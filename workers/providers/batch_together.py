"""Together's dialect of OpenAI's Batch API, and Groq's limits.

https://docs.together.ai/docs/inference/batch/overview: 50,000 requests and 100 MB; an upload has a path of its own, a
create's answer is in a `job`, the list is an array, and there is no metadata: a provider batch is known by its file.
https://console.groq.com/docs/batch: OpenAI's shape, 50,000 requests and 100 MB.
"""

from collections.abc import Mapping
from typing import Any, ClassVar

from workers.providers.batch_api import ChunkFile, Limits, ProviderBatch
from workers.providers.batch_openai import OpenAIBatches
from workers.providers.endpoints import CHAT


class GroqBatches(OpenAIBatches):
    """Groq's Batch API."""

    urls: ClassVar[frozenset[str]] = frozenset({CHAT})
    limits = Limits(requests=50_000, bytes=100_000_000)


class TogetherBatches(OpenAIBatches):
    """Together's Batch API."""

    urls: ClassVar[frozenset[str]] = frozenset({CHAT})
    limits = Limits(requests=50_000, bytes=100_000_000)
    upload_path: ClassVar[str] = "/files/upload"
    purpose: ClassVar[str] = "batch-api"
    expiry: ClassVar[Mapping[str, str]] = {}

    def order(self, file_id: str, file: ChunkFile) -> dict[str, Any]:
        return {"input_file_id": file_id, "endpoint": file.url, "completion_window": "24h"}

    def shown(self, value: dict[str, Any]) -> ProviderBatch:
        job = value.get("job")
        return super().shown(job if isinstance(job, dict) else value)
