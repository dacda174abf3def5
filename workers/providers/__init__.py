"""Calls to providers: one wire format a file, one meaning for what they answer.

accounts.py       which refusals are about the account that called, and which are about one model or one prompt
answer.py         an answer, and the provider that gives it
anthropic.py      anthropic's wire format
assembly.py       A stream of events put together to the answer that the same call brings without a stream
azure.py          azure OpenAI
bodies.py         what a job's body says, before anything is sent
ceiling.py        which of the two names for the ceiling of a chat completion a model takes, learned from what …
client.py         the HTTP client under every provider
counting_profiles.py  how each provider counts tokens
codes.py          the codes of failures that metrics name
decoding.py       the JSON of an answer, as far as it is one
embeddings.py     how large an answer of embeddings will be, before it is asked for
endpoints.py      the urls that a job may have, each of which names the format of its body, and who serves them
envelopes.py      what an answer with status 200 says that is none
errors.py         what went wrong with a call to a provider, as the caller must treat it
failures.py       which failure an answer is
headers.py        what a provider's answer tells of its rate limits
openai.py         openAI's wire format, which most other providers and servers speak too
prompt.py         what the model is going to read of a body, for an estimate of its tokens
retry_after.py    how long a provider asks to be left alone, wherever it says so
truncation.py     answers that met a ceiling
sse.py            streamed answers
error_body.py     what a provider's error says, whatever its shape
http_provider.py  one exchange with a provider, from a job's body to an Answer
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
    """The provider that the configuration calls `name`. Opens nothing yet.

    `timeout` is for a whole call, in seconds. `api_version` is Azure's (see azure.py) or Anthropic's.
    `counting` is the provider's way to count: `groq` means that its request headers count a day, which is
    also known by its address. `ignores_limits`: its rate-limit headers count for nothing. Raises ValueError,
    with words for the configuration's author.
    """
    try:
        address = urlsplit(base_url)
        host = address.hostname or ""
        _ = address.port
    except ValueError:
        raise ValueError(f"base_url of provider {name} is no address like https://host/v1") from None
    if address.scheme not in {"http", "https"} or not host:
        raise ValueError(f"base_url of provider {name} must begin with https:// or http:// and name a host")
    if address.username or address.password or address.query or address.fragment:
        raise ValueError(f"base_url of provider {name} must hold no password, query or fragment")
    if not 0 < timeout < math.inf:
        raise ValueError(f"timeout of provider {name} must be a number of seconds above 0")
    made = _client(name, api, base_url, timeout, api_version, daily=counting == "groq" or host.endswith(".groq.com"))
    made.ignores_limits = ignores_limits
    return made


def _client(
    name: str, api: str, base_url: str, timeout: float, api_version: str | None, *, daily: bool
) -> "HttpProvider":
    # httpx and aiohttp take 0.2 s to import; who only checks a body should not wait for them.
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
