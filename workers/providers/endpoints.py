"""The urls that a job may have, each of which names the format of its body, and who serves them."""

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
"""Which urls each wire format serves."""

# The largest answers are embeddings: 2,048 inputs of 3,072 floats are about 130 MB as text, which
# takes two requests then; 64 MB hold any answer of a chat model many times over.
LARGEST_ANSWER: Final = 64 << 20

LARGEST_REQUEST_MB: Final[dict[str, int]] = {"openai": 50, "azure": 50, "anthropic": 32}
"""The most that a request may have at a provider, in MB: OpenAI's images
(https://platform.openai.com/docs/guides/images-vision), Anthropic's messages
(https://platform.claude.com/docs/en/api/overview)."""
