"""Every Batch API against the simulator, and chunks for it."""

import time
from collections.abc import Iterator
from typing import Any, Protocol

from tests.simulator import Simulator
from workers.config.provider_settings import ProviderSettings
from workers.providers.batch_api import BatchApi, ChunkFile, ProviderBatch, Result
from workers.providers.batch_apis import batch_api
from workers.providers.endpoints import CHAT, MESSAGES

#: A provider's settings for each Batch API, with the path after the simulator's address.
APIS: dict[str, dict[str, Any]] = {
    "openai": {"api": "openai", "path": "/v1"},
    "together": {"api": "openai", "path": "/together/v1"},
    "groq": {"api": "openai", "path": "/groq/openai/v1"},
    "azure": {"api": "azure", "path": ""},
    "azure-dated": {"api": "azure", "path": "", "api_version": "2024-10-21"},
    "anthropic": {"api": "anthropic", "path": ""},
    "mistral": {"api": "openai", "path": "/mistral/v1"},
    "gemini": {"api": "openai", "path": "/v1beta/openai"},
}
KEY = "sk-test-aBcDeFgHiJkLmNoPqRsTuVwXyZ"


class Connect(Protocol):
    """Connects to the Batch API of this name, until the test ends."""

    def __call__(self, name: str, timeout: float = 10.0) -> BatchApi: ...


def connected(name: str, simulator: Simulator, timeout: float = 10.0) -> BatchApi:
    """The Batch API of this name."""
    settings = {**APIS[name], "timeout": timeout}
    settings["base_url"] = simulator.base_url + settings.pop("path")
    found = batch_api("acme", ProviderSettings.model_validate(settings))
    assert found is not None
    return found


def body(number: int, **more: Any) -> dict[str, Any]:
    return {"model": "small", "messages": [{"role": "user", "content": f"job {number}"}], "max_tokens": 50, **more}


def chunk(api: BatchApi, name: str = "chunk_one", lines: int = 6, **more: Any) -> ChunkFile:
    """A chunk of short lines."""
    url = CHAT if CHAT in api.urls else MESSAGES
    encoded = [api.encode(str(number), url, body(number, **more)) for number in range(1, lines + 1)]
    found = [each for each in encoded if each is not None]
    assert len(found) == lines
    return ChunkFile(name, "small", url, lines, sum(map(len, found)), lambda: iter(found))


def sent(api: BatchApi, file: ChunkFile) -> ProviderBatch:
    """A chunk's provider batch, uploaded and created."""
    return api.create(KEY, api.upload(KEY, file), file)


def ended(api: BatchApi, batch: ProviderBatch, seconds: float = 20.0) -> ProviderBatch:
    """The provider batch once it no longer runs."""
    until = time.monotonic() + seconds
    while batch.phase == "running":
        assert time.monotonic() < until, batch
        time.sleep(0.02)
        batch = api.get(KEY, batch.id)
    return batch


def results(api: BatchApi, batch: ProviderBatch) -> Iterator[Result | None]:
    """Every line of its results."""
    for file_id in batch.files:
        content = b"".join(api.download(KEY, file_id))
        yield from (api.read(line) for line in content.splitlines())
