"""What a call returns to an agent: the provider's body, and the parts that agents use most."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import orjson


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A tool call that the model asks for. `arguments` is decoded; {} if they are not a JSON object."""

    id: str
    name: str
    arguments: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer. `body` is the provider's response; `provider` and `model` say which target sent it."""

    body: dict[str, Any] = field(repr=False)
    provider: str = ""
    model: str = ""
    cost_usd: float = 0.0

    @property
    def text(self) -> str:
        """The answer's text, in any wire format; '' if it has none."""
        return "".join(_texts(self.body))

    @property
    def message(self) -> dict[str, Any]:
        """The assistant's message of a chat completion or a message, to append to `messages`."""
        match self.body:
            case {"choices": [{"message": dict(message)}, *_]}:
                return message
            case {"content": list(content)}:
                return {"role": "assistant", "content": content}
        return {"role": "assistant", "content": self.text}

    @property
    def tool_calls(self) -> list[ToolCall]:
        """The tool calls that the model asks for, in any wire format."""
        found = []
        match self.body:
            case {"choices": [{"message": {"tool_calls": list(calls)}}, *_]}:
                for call in calls:
                    match call:
                        case {"id": str(name), "function": {"name": str(tool), "arguments": given}}:
                            found.append(ToolCall(name, tool, _object(given)))
            case {"output": list(items)} | {"content": list(items)}:
                for item in items:
                    match item:
                        case {"type": "function_call", "call_id": str(name), "name": str(tool), "arguments": given}:
                            found.append(ToolCall(name, tool, _object(given)))
                        case {"type": "tool_use", "id": str(name), "name": str(tool), "input": given}:
                            found.append(ToolCall(name, tool, _object(given)))
        return found

    def json(self) -> Any:
        """The text, parsed as JSON; ValueError if it is not JSON."""
        return orjson.loads(self.text)


@dataclass(frozen=True, slots=True)
class Embeddings(Reply):
    """Embeddings, in the order of the inputs."""

    @property
    def vectors(self) -> list[list[float]]:
        """One vector for each input, in their order."""
        data = self.body.get("data")
        rows = [row for row in data if isinstance(row, dict)] if isinstance(data, list) else []
        return [row.get("embedding", []) for row in sorted(rows, key=lambda row: row.get("index", 0))]


def _texts(body: Mapping[str, Any]) -> list[str]:
    match body:
        case {"choices": [{"message": {"content": str(text)}}, *_]}:
            return [text]
        case {"content": list(parts)}:
            return _parts(parts)
        case {"output": list(items)}:
            return [text for item in items if isinstance(item, dict) for text in _parts(item.get("content"))]
    return []


def _parts(parts: Any) -> list[str]:
    found = parts if isinstance(parts, list) else []
    return [part["text"] for part in found if isinstance(part, dict) and isinstance(part.get("text"), str)]


def _object(given: Any) -> dict[str, Any]:
    if isinstance(given, str):
        try:
            given = orjson.loads(given)
        except orjson.JSONDecodeError:
            return {}
    return given if isinstance(given, dict) else {}
