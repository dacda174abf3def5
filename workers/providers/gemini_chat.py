"""Chat completions as Gemini's generateContent, and its answers as chat completions.

https://ai.google.dev/api/generate-content, November 2026. What has no equal there raises `NotCarried`: such a line is
called live, where Google translates it.
"""

import re
from collections.abc import Mapping
from typing import Any, Final

import orjson


class NotCarried(ValueError):  # noqa: N818  # named after what happened
    """A chat has something that generateContent cannot say. The message names the field."""


#: Fields of a chat and of `generationConfig` that mean the same.
_SAME: Final = {
    "temperature": "temperature",
    "top_p": "topP",
    "n": "candidateCount",
    "max_tokens": "maxOutputTokens",
    "max_completion_tokens": "maxOutputTokens",
    "seed": "seed",
    "presence_penalty": "presencePenalty",
    "frequency_penalty": "frequencyPenalty",
}

#: Fields that change nothing about the answer.
_IGNORED: Final = frozenset({"model", "user", "metadata", "store", "service_tier", "safety_identifier"})

#: Fields that are translated below.
_TRANSLATED: Final = frozenset({"messages", "stop", "response_format", "tools", "tool_choice"})

_FINISHED: Final = {
    "STOP": "stop",
    "MAX_TOKENS": "length",
    "SAFETY": "content_filter",
    "RECITATION": "content_filter",
    "BLOCKLIST": "content_filter",
    "PROHIBITED_CONTENT": "content_filter",
    "SPII": "content_filter",
}
_MODES: Final = {"auto": "AUTO", "none": "NONE", "required": "ANY"}
_DATA_URL: Final = re.compile(r"data:([\w.+/-]+);base64,(.+)", re.DOTALL)


def request_of(chat: Mapping[str, Any]) -> dict[str, Any]:
    """A chat's body as a GenerateContentRequest. Raises NotCarried."""
    for name, value in chat.items():
        harmless = value is None or (name == "stream" and not value) or (name == "parallel_tool_calls" and value)
        if not harmless and name not in _SAME and name not in _IGNORED and name not in _TRANSLATED:
            raise NotCarried(name)
    request: dict[str, Any] = {"contents": []}
    called: dict[str, str] = {}
    system: list[dict[str, Any]] = []
    for message in _dicts(chat.get("messages"), "messages"):
        if message.get("role") in {"system", "developer"}:
            system += _parts(message.get("content"))
        else:
            _add(request["contents"], *_content(message, called))
    if not request["contents"]:
        raise NotCarried("messages")
    if system:
        request["systemInstruction"] = {"parts": system}
    if settings := _settings(chat):
        request["generationConfig"] = settings
    if chat.get("tools"):
        declared = [_declaration(tool) for tool in _dicts(chat["tools"], "tools")]
        request["tools"] = [{"functionDeclarations": declared}]
    if chat.get("tool_choice") is not None:
        request["toolConfig"] = {"functionCallingConfig": _choice(chat["tool_choice"])}
    return request


def chat_of(response: Mapping[str, Any]) -> dict[str, Any]:
    """A GenerateContentResponse as a chat completion."""
    name = str(response.get("responseId") or "gemini")
    candidates = response.get("candidates")
    found = [each for each in candidates if isinstance(each, dict)] if isinstance(candidates, list) else []
    choices = [_answered(each, index, name) for index, each in enumerate(found)]
    if not choices and isinstance(response.get("promptFeedback"), dict):
        refused = {"role": "assistant", "content": None}
        choices = [{"index": 0, "message": refused, "finish_reason": "content_filter"}]
    return {
        "id": f"chatcmpl-{name}",
        "object": "chat.completion",
        "created": 0,
        "model": str(response.get("modelVersion") or ""),
        "choices": choices,
        **_usage(response.get("usageMetadata")),
    }


def _content(message: Mapping[str, Any], called: dict[str, str]) -> tuple[str, list[dict[str, Any]]]:
    """A message's role and parts. `called` maps the ids of tool calls to their functions."""
    match message.get("role"):
        case "user":
            return "user", _parts(message.get("content"))
        case "assistant":
            parts = _parts(message["content"]) if message.get("content") else []
            return "model", [*parts, *_calls(message, called)]
        case "tool":
            name = called.get(str(message.get("tool_call_id")))
            if name is None:
                raise NotCarried("tool_call_id")
            said = "".join(part["text"] for part in _parts(message.get("content")) if "text" in part)
            return "user", [{"functionResponse": {"name": name, "response": _object(said)}}]
    raise NotCarried("role")


def _add(contents: list[dict[str, Any]], role: str, parts: list[dict[str, Any]]) -> None:
    """Add parts; those of one role in a row are one content."""
    if contents and contents[-1]["role"] == role:
        contents[-1]["parts"] += parts
    elif parts:
        contents.append({"role": role, "parts": parts})


def _calls(message: Mapping[str, Any], called: dict[str, str]) -> list[dict[str, Any]]:
    parts = []
    for call in _dicts(message.get("tool_calls") or [], "tool_calls"):
        function = call.get("function")
        if not isinstance(function, dict) or not isinstance(function.get("name"), str):
            raise NotCarried("tool_calls")
        called[str(call.get("id"))] = function["name"]
        try:
            arguments = orjson.loads(function.get("arguments") or "{}")
        except orjson.JSONDecodeError:
            raise NotCarried("tool_calls") from None
        part: dict[str, Any] = {"functionCall": {"name": function["name"], "args": arguments}}
        # Gemini 3 wants its signature back (https://ai.google.dev/gemini-api/docs/thought-signatures).
        extra = call.get("extra_content")
        google = extra.get("google") if isinstance(extra, dict) else None
        if isinstance(google, dict) and isinstance(google.get("thought_signature"), str):
            part["thoughtSignature"] = google["thought_signature"]
        parts.append(part)
    return parts


def _parts(content: Any) -> list[dict[str, Any]]:
    if isinstance(content, str):
        return [{"text": content}]
    return [_part(each) for each in _dicts(content, "content")]


def _part(part: Mapping[str, Any]) -> dict[str, Any]:
    match part.get("type"):
        case "text" if isinstance(part.get("text"), str):
            return {"text": part["text"]}
        case "image_url" if isinstance(part.get("image_url"), dict):
            found = _DATA_URL.fullmatch(str(part["image_url"].get("url")))
            if found is not None:
                return {"inlineData": {"mimeType": found[1], "data": found[2]}}
        case "input_audio" if isinstance(part.get("input_audio"), dict):
            audio = part["input_audio"]
            return {"inlineData": {"mimeType": f"audio/{audio.get('format', 'wav')}", "data": audio.get("data", "")}}
    raise NotCarried(f"content of type {part.get('type')}")


def _settings(chat: Mapping[str, Any]) -> dict[str, Any]:
    settings = {theirs: chat[ours] for ours, theirs in _SAME.items() if chat.get(ours) is not None}
    if (stop := chat.get("stop")) is not None:
        settings["stopSequences"] = [stop] if isinstance(stop, str) else stop
    form = chat.get("response_format")
    match form.get("type") if isinstance(form, dict) else form:
        case None | "text":
            pass
        case "json_object":
            settings["responseMimeType"] = "application/json"
        case "json_schema" if isinstance(form, dict) and isinstance(form.get("json_schema"), dict):
            settings["responseMimeType"] = "application/json"
            if (schema := form["json_schema"].get("schema")) is not None:
                settings["responseJsonSchema"] = schema
        case _:
            raise NotCarried("response_format")
    return settings


def _declaration(tool: Mapping[str, Any]) -> dict[str, Any]:
    function = tool.get("function")
    if tool.get("type") != "function" or not isinstance(function, dict):
        raise NotCarried("tools")
    found = {"name": function.get("name"), "description": function.get("description")}
    found["parametersJsonSchema"] = function.get("parameters")
    return {name: value for name, value in found.items() if value is not None}


def _choice(choice: Any) -> dict[str, Any]:
    if isinstance(choice, str) and choice in _MODES:
        return {"mode": _MODES[choice]}
    function = choice.get("function") if isinstance(choice, dict) else None
    if not isinstance(function, dict):
        raise NotCarried("tool_choice")
    return {"mode": "ANY", "allowedFunctionNames": [function.get("name")]}


def _answered(candidate: Mapping[str, Any], index: int, name: str) -> dict[str, Any]:
    content = candidate.get("content")
    given = content.get("parts") if isinstance(content, dict) else None
    parts = [each for each in given if isinstance(each, dict)] if isinstance(given, list) else []
    said = "".join(str(each["text"]) for each in parts if "text" in each and not each.get("thought"))
    calls = [_call(each, f"call_{name}_{index}_{at}") for at, each in enumerate(parts) if "functionCall" in each]
    message: dict[str, Any] = {"role": "assistant", "content": said or None if calls else said}
    if calls:
        message["tool_calls"] = calls
    reason = _FINISHED.get(str(candidate.get("finishReason")), "stop")
    return {
        "index": index,
        "message": message,
        "finish_reason": "tool_calls" if calls and reason == "stop" else reason,
    }


def _call(part: Mapping[str, Any], call_id: str) -> dict[str, Any]:
    function = part["functionCall"] if isinstance(part["functionCall"], dict) else {}
    arguments = orjson.dumps(function.get("args") or {}).decode()
    call = {
        "id": str(function.get("id") or call_id),
        "type": "function",
        "function": {"name": str(function.get("name")), "arguments": arguments},
    }
    if isinstance(part.get("thoughtSignature"), str):
        call["extra_content"] = {"google": {"thought_signature": part["thoughtSignature"]}}
    return call


def _usage(found: Any) -> dict[str, Any]:
    """The tokens, as chats count them: thoughts are output, a tool's prompt is input."""
    if not isinstance(found, dict):
        return {}

    def count(name: str) -> int:
        value = found.get(name)
        return value if isinstance(value, int) else 0

    asked = count("promptTokenCount") + count("toolUsePromptTokenCount")
    thoughts = count("thoughtsTokenCount")
    made = count("candidatesTokenCount") + thoughts
    return {
        "usage": {
            "prompt_tokens": asked,
            "completion_tokens": made,
            "total_tokens": asked + made,
            "prompt_tokens_details": {"cached_tokens": count("cachedContentTokenCount")},
            "completion_tokens_details": {"reasoning_tokens": thoughts},
        }
    }


def _object(said: str) -> dict[str, Any]:
    """A tool's answer as Gemini takes it: an object."""
    try:
        value = orjson.loads(said)
    except orjson.JSONDecodeError:
        value = said
    return value if isinstance(value, dict) else {"result": value}


def _dicts(value: Any, name: str) -> list[dict[str, Any]]:
    if not isinstance(value, list) or not all(isinstance(each, dict) for each in value):
        raise NotCarried(name)
    return value
