"""Calls to providers: one wire format a file, one meaning for what they answer.

bodies.py       what a job's body says: is it valid, how long may the answer be, what does the model read
answer.py       Answer, and the Provider protocol
exchange.py     one exchange, from body to answer: what the wire formats share
openai.py       OpenAI and everything compatible: chat completions, responses, embeddings
azure.py        Azure OpenAI: deployments, `api-key`
anthropic.py    Anthropic: messages
events.py       streamed answers, put together again
client.py       the HTTP client: httpx over aiohttp, bounded, without redirects or retries
headers.py      rate-limit headers, in a dozen spellings
retry_after.py  how long a provider asks to be left alone
failures.py     which failure an answer is
accounts.py     which refusals are about the account
ceiling.py      the two names of a chat completion's ceiling, learned from refusals
errors.py       the tree of failures
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
    from workers.providers.exchange import HttpProvider

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
