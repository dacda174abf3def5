"""Truncated answers: they ended because they met a ceiling."""

from collections.abc import Mapping
from typing import Any, Final

from workers.providers.assembly import dicts
from workers.providers.endpoints import CHAT, MESSAGES, RESPONSES

#: OpenAI's `length`; Mistral's `model_length` for the end of the context; Gemini's word, which some gateways pass on.
_OF_CHATS: Final = frozenset({"length", "model_length", "max_tokens", "MAX_TOKENS"})

#: Anthropic's stop reasons.
_OF_MESSAGES: Final = frozenset({"max_tokens", "model_context_window_exceeded"})


def met_ceiling(url: str, body: Mapping[str, Any]) -> bool:
    """Whether an answer ended because it was not allowed to be longer."""
    if url == CHAT:
        reasons = [choice.get("finish_reason") for choice in dicts(body.get("choices"))]
        return any(isinstance(reason, str) and reason in _OF_CHATS for reason in reasons)
    if url == MESSAGES:
        reason = body.get("stop_reason")
        return isinstance(reason, str) and reason in _OF_MESSAGES
    if url == RESPONSES and body.get("status") == "incomplete":
        details = body.get("incomplete_details")
        return isinstance(details, dict) and details.get("reason") == "max_output_tokens"
    return False
