"""Which Batch API a provider has: by its api and its address.

| api       | address                           | Batch API         |
|-----------|-----------------------------------|-------------------|
| azure     | any                               | batch_azure.py    |
| anthropic | any                               | batch_anthropic.py |
| openai    | generativelanguage.googleapis.com | batch_gemini.py   |
| openai    | api.mistral.ai                    | batch_mistral.py  |
| openai    | api.together.xyz, api.together.ai | batch_together.py |
| openai    | api.groq.com                      | batch_together.py |
| openai    | one of `_OTHERS`                  | none that is known here |
| openai    | any other                         | batch_openai.py   |

On another host, such as a gateway or a simulated provider, a path that begins with `/together`, `/mistral` or `/groq`,
or ends with `/v1beta/openai`, means the same.
"""

from typing import Final
from urllib.parse import urlsplit

#: Hosts without a Batch API, or with one of another shape.
_OTHERS: Final = (
    "api.x.ai",
    "openrouter.ai",
    "api.fireworks.ai",
    "api.deepseek.com",
    "api.perplexity.ai",
    "api.cerebras.ai",
    "aiplatform.googleapis.com",
)


def kind_of(api: str, base_url: str) -> str:
    """The name of a provider's Batch API, '' if it has none that is known here."""
    if api != "openai":
        return api
    address = urlsplit(base_url)
    host, path = address.hostname or "", address.path.rstrip("/")
    if any(_is_at(host, each) for each in _OTHERS) or host.endswith("-aiplatform.googleapis.com"):
        return ""
    if _is_at(host, "generativelanguage.googleapis.com") or path.endswith("/v1beta/openai"):
        return "gemini"
    if _is_at(host, "mistral.ai") or path.startswith("/mistral"):
        return "mistral"
    if _is_at(host, "together.xyz") or _is_at(host, "together.ai") or path.startswith("/together"):
        return "together"
    return "groq" if _is_at(host, "groq.com") or path.startswith("/groq") else "openai"


def _is_at(host: str, domain: str) -> bool:
    return host == domain or host.endswith(f".{domain}")
