"""Azure OpenAI's Batch API: OpenAI's at other addresses, for deployments of a batch type.

https://learn.microsoft.com/azure/ai-foundry/openai/how-to/batch, March 2026: 100,000 requests and 200 MB a file, 500
files, or 10,000 if they expire on their own. A provider batch never expires, so the caller must
cancel it in time.
"""

from typing import Any, ClassVar

from workers.providers.azure import Azure
from workers.providers.batch_api import ChunkFile, Limits
from workers.providers.batch_http import BatchHttp
from workers.providers.batch_openai import OpenAIBatches
from workers.providers.endpoints import CHAT


class AzureBatches(OpenAIBatches):
    """The Batch API of one Azure OpenAI resource. A line's model is the name of a deployment."""

    urls: ClassVar[frozenset[str]] = frozenset({CHAT})
    limits = Limits(requests=100_000, bytes=200_000_000)

    def __init__(self, name: str, base_url: str, timeout: float, api_version: str | None = None) -> None:
        super().__init__(name, base_url, timeout)
        self.provider = azure = Azure(name, base_url, timeout, api_version=api_version)
        self._dated = api_version is not None
        base = f"{azure.resource}/openai" if self._dated else f"{azure.resource}/openai/v1"
        query = {"api-version": api_version} if api_version is not None else {}
        self.http = BatchHttp(name, base, timeout, self.headers, query)

    def headers(self, key: str) -> dict[str, str]:
        return {"api-key": key}

    def encode(self, custom_id: str, url: str, body: dict[str, Any]) -> bytes | None:
        return super().encode(custom_id, self._named(url), body)

    def order(self, file_id: str, file: ChunkFile) -> dict[str, Any]:
        return {**super().order(file_id, file), "endpoint": self._named(file.url)}

    def _named(self, url: str) -> str:
        """A url as lines and provider batches name it."""
        return url.removeprefix("/v1") if self._dated else url
