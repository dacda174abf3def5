"""What an answer contains, in each wire format. A provider's fields of the wrong type are left out."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from workers.providers.assembly import dicts

#: Items of a response that are no answer to the user.
_NO_ANSWER: Final = frozenset({"reasoning"})

#: How a chat's choice ends if a content filter withheld it: OpenAI's word, and those of Gemini that gateways pass on.
_FILTERED: Final = frozenset({"content_filter", "safety", "recitation", "blocklist", "prohibited_content", "spii"})


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A tool call: the tool's name, and its arguments, as JSON text or decoded."""

    name: str
    arguments: Any


@dataclass(slots=True)
class Contents:
    """One answer, or one of a chat's `n` choices. `other`: it contains something else, such as audio or an image."""

    texts: list[str] = field(default_factory=list)
    calls: list[ToolCall] = field(default_factory=list)
    refusal: str | None = None
    filtered: bool = False
    other: bool = False

    @property
    def text(self) -> str:
        """All of its text."""
        return "".join(self.texts)

    @property
    def empty(self) -> bool:
        """Whether there is nothing in it."""
        return not self.calls and not self.other and not any(text.strip() for text in self.texts)


def of_answer(url: str, body: Mapping[str, Any]) -> list[Contents]:
    """The contents of an answer: one for each choice of a chat; none for embeddings, which have nothing to check."""
    match url:
        case "/v1/chat/completions":
            return [_choice(each) for each in dicts(body.get("choices"))]
        case "/v1/responses":
            return [_response(body)]
        case "/v1/messages":
            return [_message(body)]
    return []


def _choice(choice: Mapping[str, Any]) -> Contents:
    found = Contents(filtered=str(choice.get("finish_reason")).lower() in _FILTERED)
    message = choice.get("message")
    if not isinstance(message, dict):
        return found
    content = message.get("content")
    found.texts = [content] if isinstance(content, str) else list(_texts(content, "text"))
    found.refusal = _text(message.get("refusal"))
    found.other = bool(message.get("audio") or message.get("images") or message.get("function_call"))
    for call in dicts(message.get("tool_calls")):
        function = call.get("function")
        if isinstance(function, dict):
            found.calls.append(ToolCall(str(function.get("name")), function.get("arguments")))
        else:
            found.other = True  # a custom tool, whose input is free text
    return found


def _response(body: Mapping[str, Any]) -> Contents:
    details = body.get("incomplete_details")
    reason = details.get("reason") if isinstance(details, dict) else None
    found = Contents(filtered=reason == "content_filter")
    for item in dicts(body.get("output")):
        match item.get("type"):
            case "message":
                found.texts += _texts(item.get("content"), "output_text")
                for part in dicts(item.get("content")):
                    if part.get("type") == "refusal":
                        found.refusal = _text(part.get("refusal")) or "the model refused"
            case "function_call":
                found.calls.append(ToolCall(str(item.get("name")), item.get("arguments")))
            case kind if kind not in _NO_ANSWER:
                found.other = True
    return found


def _message(body: Mapping[str, Any]) -> Contents:
    found = Contents()
    if body.get("stop_reason") == "refusal":
        details = body.get("stop_details")
        words = details.get("explanation") if isinstance(details, dict) else None
        found.refusal = _text(words) or "the model refused"
    for part in dicts(body.get("content")):
        match part.get("type"):
            case "text":
                found.texts += _texts([part], "text")
            case "tool_use":
                found.calls.append(ToolCall(str(part.get("name")), part.get("input")))
            case kind if kind not in {"thinking", "redacted_thinking"}:
                found.other = True
    return found


def _texts(parts: Any, kind: str) -> Iterator[str]:
    for part in dicts(parts):
        if part.get("type") == kind and isinstance(part.get("text"), str):
            yield part["text"]


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) and value else None
