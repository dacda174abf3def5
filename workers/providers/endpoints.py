"""The urls of jobs, which name the format of the body, and the APIs that serve them."""

from typing import Final

CHAT: Final = "/v1/chat/completions"
RESPONSES: Final = "/v1/responses"
EMBEDDINGS: Final = "/v1/embeddings"
MESSAGES: Final = "/v1/messages"
ENDPOINTS: Final = frozenset({CHAT, RESPONSES, EMBEDDINGS, MESSAGES})
ENDPOINTS_BY_API: Final[dict[str, frozenset[str]]] = {
    "openai": frozenset({CHAT, RESPONSES, EMBEDDINGS}),
    "azure": frozenset({CHAT, RESPONSES, EMBEDDINGS}),
    "anthropic": frozenset({MESSAGES}),
}
"""The urls that each wire format serves."""

# The most that is read of an answer, in bytes. The largest answers are embeddings: 2,048 inputs of 3,072 floats are
# about 130 MB of text and need several requests. A chat model's answer is far smaller.
LARGEST_ANSWER: Final = 64 << 20

LARGEST_REQUEST_MB: Final[dict[str, int]] = {"openai": 50, "azure": 50, "anthropic": 32}
"""The largest request by API, in MB: with images at OpenAI (https://platform.openai.com/docs/guides/images-vision), for
messages at Anthropic (https://platform.claude.com/docs/en/api/overview)."""
