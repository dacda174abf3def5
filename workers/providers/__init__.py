"""Calls to providers: one wire format a file, one meaning for what they answer.

endpoints.py          the urls of jobs, and the APIs that serve them
bodies.py             checks and reads a job's body before anything is sent
prompt.py             what the model will read of a body
prompt_prefix.py      what prompts have in common for a provider's prompt cache
embeddings.py         the size of an embeddings answer before the call
counting_profiles.py  how each provider counts tokens
answer.py             the interface: a provider, its answers, and who reads a stream
http_provider.py      a call over HTTP, from a job's body to an Answer
openai.py             OpenAI's wire format, which most other servers use as well
azure.py              Azure OpenAI
anthropic.py          Anthropic's wire format
batch_api.py          the interface of a Batch API
batch_kinds.py        which providers have one
batch_apis.py         the one of a provider
batch_http.py         requests to a Batch API
batch_openai.py       OpenAI's Batch API
batch_azure.py        Azure's
batch_together.py     Together's and Groq's
batch_mistral.py      Mistral's
batch_anthropic.py    Anthropic's Message Batches
batch_gemini.py       Gemini's
gemini_chat.py        chats as Gemini takes and answers them
client.py             the HTTP client under every provider
decoding.py           decodes an answer's JSON, even invalid JSON
sse.py                streamed answers
assembly.py           assembles a stream's events into an answer
relay.py              passes a stream on as it comes, to someone who waits for it
stream_state.py       what is kept of such a stream
truncation.py         answers that met a ceiling
headers.py            rate limits in an answer's headers
failures.py           which error an answer is
errors.py             the errors, by what the caller must do
error_body.py         reads a provider's error, whatever its shape
envelopes.py          errors in answers with status 200
accounts.py           whether a refusal is about the account, one model or one prompt
retry_after.py        how long a provider asks callers to wait
ceiling.py            which name a model takes for the ceiling of its answer
codes.py              the error codes that metrics name
"""

import math
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from workers.providers.answer import Answer, Provider
from workers.providers.endpoints import ENDPOINTS_BY_API
from workers.providers.errors import (
    AccountBlocked,
    CallFailed,
    Interrupted,
    ProviderError,
    Refused,
    Throttled,
    TooLarge,
    Unavailable,
)
from workers.providers.headers import Level, RateLimits

if TYPE_CHECKING:
    from workers.providers.http_provider import HttpProvider

__all__ = [
    "ENDPOINTS_BY_API",
    "AccountBlocked",
    "Answer",
    "CallFailed",
    "Interrupted",
    "Level",
    "Provider",
    "ProviderError",
    "RateLimits",
    "Refused",
    "Throttled",
    "TooLarge",
    "Unavailable",
    "connect",
]


def connect(
    name: str,
    api: str,
    base_url: str,
    timeout: float,
    api_version: str | None = None,
    counting: str | None = None,
    ignores_limits: bool = False,
) -> Provider:
    """The provider that the configuration calls `name`. Connects to nothing yet.

    `timeout` is for a whole call, in seconds. `api_version` is Azure's (see azure.py) or Anthropic's. `counting` is how
    the provider counts: with `groq`, as with Groq's address, its request headers count a day. `ignores_limits`: ignore
    its rate-limit headers. Raises ValueError with words for the configuration's author.
    """
    try:
        address = urlsplit(base_url)
        host = address.hostname or ""
        _ = address.port
    except ValueError:
        raise ValueError(f"base_url of provider {name} is not an address like https://host/v1") from None
    if address.scheme not in {"http", "https"} or not host:
        raise ValueError(f"base_url of provider {name} must begin with https:// or http:// and name a host")
    if address.username or address.password or address.query or address.fragment:
        raise ValueError(f"base_url of provider {name} must not contain a password, query or fragment")
    if not 0 < timeout < math.inf:
        raise ValueError(f"timeout of provider {name} must be a number of seconds above 0")
    made = _client(name, api, base_url, timeout, api_version, daily=counting == "groq" or host.endswith(".groq.com"))
    made.ignores_limits = ignores_limits
    return made


def _client(
    name: str, api: str, base_url: str, timeout: float, api_version: str | None, *, daily: bool
) -> "HttpProvider":
    # httpx and aiohttp take 0.2 s to import, which code that only checks a body should not wait for.
    match api:
        case "openai":
            from workers.providers.openai import OpenAI  # noqa: PLC0415  # see above

            return OpenAI(name, base_url, timeout, requests_are_daily=daily)
        case "azure":
            from workers.providers.azure import Azure  # noqa: PLC0415  # see above

            return Azure(name, base_url, timeout, api_version=api_version)
        case "anthropic":
            from workers.providers.anthropic import Anthropic  # noqa: PLC0415  # see above

            return Anthropic(name, base_url, timeout, api_version=api_version)
        case _:
            raise ValueError(f"api of provider {name} must be one of {', '.join(ENDPOINTS_BY_API)}")
