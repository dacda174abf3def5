"""What the model will read of a body, for an estimate of its tokens."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import orjson

from workers.providers.endpoints import MESSAGES

# Fields of a responses body that refer to text at the provider.
STORED_AT_THE_PROVIDER: Final = ("previous_response_id", "conversation", "prompt")


@dataclass(frozen=True, slots=True)
class Prompt:
    """What the model will read of a body.

    - `texts`: every string, in order
    - `messages`: the number of turns, each of which costs a few tokens of framing
    - `images`, `files`: their numbers
    - `file_bytes`: the size of inline files
    - `tools`: the JSON of tools, functions and answer schemas, empty if there are none
    - `token_ids`: the number of tokens given as numbers, which need no estimate
    - `hidden`: the model also reads what the body doesn't contain (an earlier response, a stored prompt, what a hosted
      tool finds), so no estimate is an upper bound
    """

    texts: tuple[str, ...] = ()
    messages: int = 0
    images: int = 0
    files: int = 0
    file_bytes: int = 0
    tools: bytes = b""
    token_ids: int = 0
    hidden: bool = False


def prompt(url: str, body: Mapping[str, Any]) -> Prompt:
    """What the model will read of this body."""
    reader = _Reader()
    match url:
        case "/v1/embeddings":
            reader.read_embeddings(body.get("input"))
        case "/v1/responses":
            reader.read(body.get("instructions"))
            reader.read_items(body.get("input"))
            reader.hidden |= any(body.get(field) for field in ("previous_response_id", "conversation", "prompt"))
        case _:
            reader.read(body.get("system"))
            reader.read_items(body.get("messages"))
    return reader.prompt(_tools(body), hosted=_has_hosted_tools(url, body))


class _Reader:
    """Walks content of any format. Unknown content counts as text, so that nothing is left out."""

    def __init__(self) -> None:
        self.texts: list[str] = []
        self.messages = 0
        self.images = 0
        self.files = 0
        self.file_bytes = 0
        self.token_ids = 0
        self.hidden = False

    def prompt(self, tools: bytes, *, hosted: bool) -> Prompt:
        return Prompt(
            texts=tuple(self.texts),
            messages=self.messages,
            images=self.images,
            files=self.files,
            file_bytes=self.file_bytes,
            tools=tools,
            token_ids=self.token_ids,
            hidden=self.hidden or hosted,
        )

    def read_items(self, items: Any) -> None:
        if not isinstance(items, list):
            self.messages += items is not None
            self.read(items)
            return
        for item in items:
            self.messages += 1
            if isinstance(item, dict):
                for field, value in item.items():
                    if field not in _SILENT_FIELDS:
                        self.read(value)
            else:
                self.read(item)

    def read_embeddings(self, value: Any) -> None:
        if isinstance(value, str):
            self.texts.append(value)
        elif isinstance(value, list):
            for item in value:
                if isinstance(item, int):
                    self.token_ids += 1
                else:
                    self.read_embeddings(item)

    def read(self, content: Any) -> None:
        """A string, a part, or a list of them."""
        if isinstance(content, str):
            if content:
                self.texts.append(content)
        elif isinstance(content, list):
            for part in content:
                self.read(part)
        elif isinstance(content, dict):
            self._read_part(content)

    def _read_part(self, part: Mapping[str, Any]) -> None:
        match part.get("type"):
            case "image_url" | "input_image" | "image":
                self.images += 1
            case "file" | "input_file" | "document" | "input_audio" | "video_url" | "container_upload":
                self._read_file(part)
            case "tool_use" | "server_tool_use":
                self.read(part.get("name"))
                self.texts.append(_json(part.get("input")).decode())
            case "image_generation_call" | "item_reference":
                self.hidden = True
            case _:
                for field, value in part.items():
                    if field not in _SILENT_FIELDS:
                        self.read(value)

    def _read_file(self, part: Mapping[str, Any]) -> None:
        self.files += 1
        kind = part.get("type")
        source = (
            part.get("source")
            if kind == "document"
            else part.get(kind)
            if isinstance(kind, str) and kind in part
            else part
        )
        if not isinstance(source, Mapping):
            source = part
        if source.get("type") == "text":
            self.read(source.get("data"))
        elif isinstance(source.get("content"), list):
            self.read(source["content"])
        elif isinstance(data := source.get("data") or source.get("file_data"), str):
            self.file_bytes += len(data) * 3 // 4  # base64
        else:
            self.hidden = True
        self.read([part.get("title"), part.get("context")])


# Fields of messages and parts that are not text for the model: marks, ids, settings.
_SILENT_FIELDS: Final = frozenset(
    {"type", "role", "id", "call_id", "tool_call_id", "tool_use_id", "status", "detail", "cache_control"}
    | {"signature", "encrypted_content", "annotations", "logprobs", "phase"}
)


def _tools(body: Mapping[str, Any]) -> bytes:
    """The JSON that describes tools and the answer's form, which the model reads as well."""
    said = [
        value
        for field in (
            "tools",
            "functions",
            "response_format",
            "text",
            "output_config",
            "output_format",
            "mcp_servers",
        )
        if isinstance(value := body.get(field), list | dict) and value
    ]
    return b"".join(map(_json, said))


def _has_hosted_tools(url: str, body: Mapping[str, Any]) -> bool:
    """Whether the provider runs a tool within the call and feeds its findings to the model."""
    if body.get("web_search_options") is not None or body.get("mcp_servers"):
        return True
    tools = body.get("tools")
    kinds = [tool.get("type") for tool in tools if isinstance(tool, dict)] if isinstance(tools, list) else []
    if url == MESSAGES:
        # The client runs Anthropic's other tools, and its next call contains their findings.
        return any(isinstance(kind, str) and kind.startswith(_ANTHROPICS_HOSTED_TOOLS) for kind in kinds)
    return any(kind not in _RUN_BY_THE_CLIENT for kind in kinds)


# OpenAI's types of tools that the client runs.
_RUN_BY_THE_CLIENT: Final = ("function", "custom")

# How the types of Anthropic's hosted tools begin.
_ANTHROPICS_HOSTED_TOOLS: Final = ("web_", "code_execution", "mcp_", "tool_search")


def _json(value: Any) -> bytes:
    try:
        return orjson.dumps(value)
    except TypeError:  # a lone surrogate or a number beyond 64 bits; only the length matters here
        return ascii(value).encode()
