"""What a line asks of its answer: JSON, a schema, arguments of tools. The line is untrusted: strange parts ask nothing.

| format of the line     | the answer's schema                  | a tool's schema         |
|------------------------|--------------------------------------|-------------------------|
| `/v1/chat/completions` | `response_format.json_schema.schema` | `function.parameters`   |
| `/v1/responses`        | `text.format.schema`                 | `parameters`            |
| `/v1/messages`         | `output_config.format.schema`        | `input_schema`          |
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from workers.providers.assembly import dicts

#: No schema: anything goes.
ANY: Final = True


@dataclass(frozen=True, slots=True)
class Wanted:
    """What an answer must be. `schema`: of its text, if that must be `json`; `tools`: the schema of each, by name."""

    json: bool = False
    schema: Any = ANY
    tools: Mapping[str, Any] = field(default_factory=dict)


def of_line(url: str, body: Mapping[str, Any]) -> Wanted | None:
    """What a line asks of its answer; None if it asks for nothing that can be checked."""
    form = _format(url, body)
    tools = _tools(url, body)
    kind = form.get("type")
    if kind == "json_schema":
        inner = form.get("json_schema")
        found = (inner if isinstance(inner, dict) else form).get("schema")
        return Wanted(json=True, schema=ANY if found is None else found, tools=tools)
    if kind == "json_object":
        return Wanted(json=True, schema={"type": "object"}, tools=tools)
    return Wanted(tools=tools) if tools else None


def _format(url: str, body: Mapping[str, Any]) -> Mapping[str, Any]:
    found: Any = None
    match url:
        case "/v1/chat/completions":
            found = body.get("response_format")
        case "/v1/responses":
            found = _inside(body.get("text"), "format")
        case "/v1/messages":
            found = _inside(body.get("output_config"), "format") or body.get("output_format")
    return found if isinstance(found, dict) else {}


def _inside(table: Any, name: str) -> Any:
    return table.get(name) if isinstance(table, dict) else None


def _tools(url: str, body: Mapping[str, Any]) -> dict[str, Any]:
    """The schema of each tool that may be called, by name; `ANY` for the provider's own."""
    found = {}
    for tool in dicts(body.get("tools")):
        match url, tool:
            case "/v1/chat/completions", {"function": {"name": str(name), **more}}:
                found[name] = _schema(more.get("parameters"))
            case "/v1/responses", {"type": "function", "name": str(name), **more}:
                found[name] = _schema(more.get("parameters"))
            case "/v1/messages", {"name": str(name), **more}:
                found[name] = _schema(more.get("input_schema"))
    return found


def _schema(value: Any) -> Any:
    return ANY if value is None else value
