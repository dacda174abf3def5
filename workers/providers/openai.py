"""OpenAI's wire format, which most other providers and servers use as well.

`POST {base}/chat/completions`, `/responses`, `/embeddings`, `GET {base}/models`; the key as a bearer token.
"""

from collections.abc import Mapping
from typing import Any, ClassVar, Final

import httpx

from limits.counting import Usage
from workers.providers.endpoints import EMBEDDINGS, ENDPOINTS_BY_API, RESPONSES
from workers.providers.envelopes import cut_off
from workers.providers.http_provider import COMMON_HEADERS, HttpProvider, natural, versioned


class OpenAI(HttpProvider):
    """OpenAI itself, and every server with an OpenAI-compatible API."""

    api: ClassVar[str] = "openai"
    endpoints: ClassVar[frozenset[str]] = ENDPOINTS_BY_API["openai"]

    def _address(self, url: str, model: str) -> str:  # noqa: ARG002  # other formats name the model in the path
        return versioned(self._base) + url.removeprefix("/v1")

    def _models_url(self) -> httpx.URL:
        return httpx.URL(versioned(self._base) + "/models")

    def _headers(self, key: str) -> list[tuple[str, str]]:
        # A local server needs no key, and some refuse an empty bearer token.
        return [*COMMON_HEADERS, ("authorization", f"Bearer {key}")] if key else COMMON_HEADERS

    def _is_answer(self, url: str, body: Mapping[str, Any]) -> bool:
        return is_answer(url, body)

    def _usage(self, url: str, body: Mapping[str, Any]) -> Usage | None:
        return usage_of(url, body)


# Statuses of a response that is an answer; `incomplete` met its ceiling.
_FINISHED: Final = ("completed", "incomplete")


def is_answer(url: str, body: Mapping[str, Any]) -> bool:
    """Whether a 2xx body contains an answer. Some gateways report failures with a 200."""
    if body.get("error"):
        return False
    match url:
        case "/v1/chat/completions":
            choices = body.get("choices")
            return (
                isinstance(choices, list)
                and bool(choices)
                and all(isinstance(choice, dict) and not choice.get("error") for choice in choices)
                and cut_off(body) is None
            )
        case "/v1/responses":
            # `queued` and `in_progress` are not answers yet.
            return isinstance(body.get("output"), list) and body.get("status", "completed") in _FINISHED
        case _:
            return isinstance(body.get("data"), list) and bool(body["data"])


def usage_of(url: str, body: Mapping[str, Any]) -> Usage | None:
    """The tokens that the body reports, None if it reports nothing usable."""
    usage = body.get("usage")
    if not isinstance(usage, dict):
        return None
    if url == RESPONSES:
        total_input, made = natural(usage.get("input_tokens")), natural(usage.get("output_tokens"))
        details, of_output = usage.get("input_tokens_details"), usage.get("output_tokens_details")
    else:
        total_input, made = natural(usage.get("prompt_tokens")), natural(usage.get("completion_tokens"))
        details, of_output = usage.get("prompt_tokens_details"), usage.get("completion_tokens_details")
    details = details if isinstance(details, dict) else {}
    reasoning = natural(of_output.get("reasoning_tokens")) if isinstance(of_output, dict) else 0
    cached = natural(details.get("cached_tokens")) or natural(usage.get("prompt_cache_hit_tokens"))  # DeepSeek's name
    written = natural(details.get("cache_write_tokens"))  # OpenRouter
    beyond = natural(usage.get("total_tokens")) - total_input - made
    if beyond >= cached > 0 and (cached > total_input or beyond == cached):
        # Some gateways count cached tokens only in the total.
        total_input, beyond = total_input + cached, beyond - cached
    # Gemini and xAI leave reasoning out of completion_tokens, but not out of the total, and bill it.
    made = made + max(0, beyond) if url != EMBEDDINGS else 0
    if not total_input and not made:
        return None
    cached = min(cached, total_input)
    written = min(written, total_input - cached)
    return Usage(total_input, cached=cached, cache_write=written, output=made, reasoning=min(reasoning, made))
