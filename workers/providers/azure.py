"""Azure OpenAI: OpenAI's bodies at other addresses. A target's model is the name of a *deployment*.

With an `api_version` the address names the deployment:

    {base}/openai/deployments/{model}/chat/completions?api-version=2024-10-21

That is what resources with dated versions, and gateways in front of them, offer. `/v1/responses` has no such path:
there only the body names the deployment. Without an `api_version` the address of newer resources is used, with the
deployment in the body where OpenAI has the model:

    {base}/openai/v1/chat/completions

The key goes into the `api-key` header in both cases.
"""

from typing import ClassVar, Final
from urllib.parse import quote, urlencode

import httpx

from workers.providers.endpoints import RESPONSES
from workers.providers.http_provider import COMMON_HEADERS
from workers.providers.openai import OpenAI

_ENDINGS: Final = ("/openai/v1", "/openai")


class Azure(OpenAI):
    """One Azure OpenAI resource."""

    api: ClassVar[str] = "azure"
    request_id_headers: ClassVar[tuple[str, ...]] = ("apim-request-id", "x-request-id", "x-ms-request-id")

    def __init__(self, name: str, base_url: str, timeout: float, *, api_version: str | None = None) -> None:
        super().__init__(name, base_url, timeout)
        self._api_version = api_version
        base = base_url.rstrip("/")
        for ending in _ENDINGS:
            base = base.removesuffix(ending)
        self.resource = base
        """The address of the resource, without a path of the API."""

    def _address(self, url: str, model: str) -> str:
        task = url.removeprefix("/v1")
        if self._api_version is None:
            return f"{self.resource}/openai/v1{task}"
        path = task if url == RESPONSES else f"/deployments/{quote(model, safe='')}{task}"
        return f"{self.resource}/openai{path}?{urlencode({'api-version': self._api_version})}"

    def _models_url(self) -> httpx.URL:
        if self._api_version is None:
            return httpx.URL(f"{self.resource}/openai/v1/models")
        return httpx.URL(f"{self.resource}/openai/models?{urlencode({'api-version': self._api_version})}")

    def _headers(self, key: str) -> list[tuple[str, str]]:
        return [*COMMON_HEADERS, ("api-key", key)]
