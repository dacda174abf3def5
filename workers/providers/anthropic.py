"""Anthropic's wire format: `POST {base}/messages`, `GET {base}/models`, the key in `x-api-key`."""

from collections.abc import Mapping
from dataclasses import astuple
from typing import Any, ClassVar, Final

import httpx

from limits.counting import Usage
from workers.providers.assembly import dicts
from workers.providers.endpoints import ENDPOINTS_BY_API
from workers.providers.http_provider import COMMON_HEADERS, HttpProvider, natural, versioned

# The only version of the API's format so far (platform.claude.com, "Versions").
API_VERSION: Final = "2023-06-01"


class Anthropic(HttpProvider):
    """Anthropic itself, and servers with its Messages API."""

    api: ClassVar[str] = "anthropic"
    endpoints: ClassVar[frozenset[str]] = ENDPOINTS_BY_API["anthropic"]
    request_id_headers: ClassVar[tuple[str, ...]] = ("request-id", "x-request-id")

    def __init__(self, name: str, base_url: str, timeout: float, *, api_version: str | None = None) -> None:
        super().__init__(name, base_url, timeout)
        self._common = [*COMMON_HEADERS, ("anthropic-version", api_version or API_VERSION)]

    def _address(self, url: str, model: str) -> str:  # noqa: ARG002  # other formats name the model in the path
        return versioned(self._base) + url.removeprefix("/v1")

    def _models_url(self) -> httpx.URL:
        return httpx.URL(versioned(self._base) + "/models")

    def _headers(self, key: str) -> list[tuple[str, str]]:
        return [*self._common, ("x-api-key", key)]

    def _is_answer(self, url: str, body: Mapping[str, Any]) -> bool:  # noqa: ARG002  # it serves one url
        return not body.get("error") and body.get("type") != "error" and isinstance(body.get("content"), list)

    def _usage(self, url: str, body: Mapping[str, Any]) -> Usage | None:  # noqa: ARG002  # it serves one url
        usage = body.get("usage")
        if not isinstance(usage, dict):
            return None
        total, rounds = _usage(usage), [_usage(each) for each in dicts(usage.get("iterations"))]
        if rounds:
            # The total lacks what compactions read and wrote.
            total = _largest(total, _sum(rounds))
        return total if total.input or total.output else None


def _usage(usage: Mapping[str, Any]) -> Usage:
    # input_tokens leaves out what came from the cache or went into it.
    cached = natural(usage.get("cache_read_input_tokens"))
    written = natural(usage.get("cache_creation_input_tokens"))
    kept = usage.get("cache_creation")
    written_1h = natural(kept.get("ephemeral_1h_input_tokens")) if isinstance(kept, dict) else 0
    return Usage(
        input=natural(usage.get("input_tokens")) + cached + written,
        cached=cached,
        cache_write=written,
        output=natural(usage.get("output_tokens")),
        cache_write_1h=min(written_1h, written),
    )


def _sum(rounds: list[Usage]) -> Usage:
    return Usage(*(sum(figures) for figures in zip(*map(astuple, rounds), strict=True)))


def _largest(one: Usage, other: Usage) -> Usage:
    return Usage(*map(max, astuple(one), astuple(other)))
