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
