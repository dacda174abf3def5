"""What a check says of an answer, in each wire format. Strange bodies never make it fail."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.answers.checks import Checked, check
from tests.simulator import flaws
from tests.simulator.answers import chat, message, response
from workers.providers.endpoints import CHAT, EMBEDDINGS, MESSAGES, RESPONSES

SCHEMA = {
    "type": "object",
    "properties": {"total": {"type": "integer"}, "word": {"type": "string"}},
    "required": ["total", "word"],
    "additionalProperties": False,
}
RIGHT = '{"total":7,"word":"seven"}'

FORMATS: dict[str, dict[str, Any]] = {
    CHAT: {"response_format": {"type": "json_schema", "json_schema": {"name": "n", "schema": SCHEMA}}},
    RESPONSES: {"text": {"format": {"type": "json_schema", "name": "n", "schema": SCHEMA}}},
    MESSAGES: {"output_config": {"format": {"type": "json_schema", "schema": SCHEMA}}},
}
TOOLS: dict[str, dict[str, Any]] = {
    CHAT: {"tools": [{"type": "function", "function": {"name": "add", "parameters": SCHEMA}}]},
    RESPONSES: {"tools": [{"type": "function", "name": "add", "parameters": SCHEMA}]},
    MESSAGES: {"tools": [{"name": "add", "input_schema": SCHEMA}, {"type": "bash_20250124", "name": "bash"}]},
}


def answer(url: str, text: str | None) -> dict[str, Any]:
    """A provider's whole answer with this text."""
    match url:
        case "/v1/chat/completions":
            found = chat({}, "m", "job", 5, 8, 0)
            found["choices"][0]["message"]["content"] = text
        case "/v1/responses":
            found = response("m", "job", 5, 8, 0)
            found["output"][0]["content"][0]["text"] = text
        case _:
            found = message({}, "m", "job", 5, 8, 0)
            found["content"] = [{"type": "text", "text": text}] if text is not None else []
    return found


def tool_call(url: str, name: str, arguments: str | dict[str, Any]) -> dict[str, Any]:
    """A provider's whole answer that calls a tool."""
    match url:
        case "/v1/chat/completions":
            call = {"id": "c", "type": "function", "function": {"name": name, "arguments": arguments}}
            return {"choices": [{"message": {"content": None, "tool_calls": [call]}, "finish_reason": "tool_calls"}]}
        case "/v1/responses":
            return {"output": [{"type": "function_call", "call_id": "c", "name": name, "arguments": arguments}]}
    return {"content": [{"type": "tool_use", "id": "c", "name": name, "input": arguments}], "stop_reason": "tool_use"}


@pytest.mark.parametrize("url", FORMATS)
@pytest.mark.parametrize(
    ("text", "result", "reason"),
    [
        pytest.param(RIGHT, "valid", "", id="right"),
        pytest.param('{"total":7}', "invalid", "'word' is a required property", id="a field is missing"),
        pytest.param('{"total":"7","word":"x"}', "invalid", "$.total: '7' is not of type 'integer'", id="a wrong type"),
        pytest.param('{"total":7,"word":"x","more":1}', "invalid", "'more'", id="an extra field"),
        pytest.param(f"```json\n{RIGHT}\n```", "invalid", "not JSON", id="fenced"),
        pytest.param(" \n", "empty", "no text", id="blank"),
    ],
)
def test_the_text_is_checked_against_the_schema(url: str, text: str, result: str, reason: str) -> None:
    found = check(url, FORMATS[url], answer(url, text))
    assert (found.result, reason in found.reason) == (result, True)


@pytest.mark.parametrize("url", FORMATS)
@pytest.mark.parametrize("kind", ["invalid", "truncated", "refused", "filtered", "empty"])
def test_each_flaw_is_recognized(url: str, kind: str) -> None:
    body = answer(url, RIGHT)
    flaws._SPOILERS[kind](body)
    expected = "refused" if (url, kind) == (MESSAGES, "filtered") else kind  # Anthropic has one stop reason for both
    assert check(url, FORMATS[url], body).result == expected


@pytest.mark.parametrize("url", TOOLS)
def test_arguments_are_checked_against_their_tool(url: str) -> None:
    raw: Any = (lambda text: text) if url != MESSAGES else __import__("json").loads
    assert check(url, TOOLS[url], tool_call(url, "add", raw(RIGHT))).result == "valid"
    wrong = check(url, TOOLS[url], tool_call(url, "add", raw('{"total": 7.5, "word": "x"}')))
    assert wrong == Checked(
        "invalid", "the arguments of tool 'add' don't match its schema: $.total: 7.5 is not of type 'integer'"
    )
    other = check(url, TOOLS[url], tool_call(url, "subtract", raw(RIGHT)))
    assert other == Checked("invalid", "it calls a tool that the line doesn't have: 'subtract'")
    assert check(url, TOOLS[url], answer(url, "no tool")).result == "valid"


def test_broken_arguments_are_invalid() -> None:
    assert "are not JSON" in check(CHAT, TOOLS[CHAT], tool_call(CHAT, "add", '{"total": 7')).reason


def test_the_provider_own_tools_have_no_schema() -> None:
    assert check(MESSAGES, TOOLS[MESSAGES], tool_call(MESSAGES, "bash", {"command": "ls"})).result == "valid"


def test_a_json_object_is_asked_for_without_a_schema() -> None:
    request = {"response_format": {"type": "json_object"}}
    assert check(CHAT, request, answer(CHAT, RIGHT)).result == "valid"
    assert check(CHAT, request, answer(CHAT, "[1]")).result == "invalid"
    assert check(CHAT, request, answer(CHAT, "seven")).result == "invalid"


def test_one_wrong_choice_of_several_is_enough() -> None:
    body = answer(CHAT, RIGHT)
    wrong = {**body["choices"][0], "message": {"content": "{}"}}
    body["choices"].append(wrong)
    assert check(CHAT, FORMATS[CHAT], body).result == "invalid"


def test_embeddings_have_nothing_to_check() -> None:
    assert check(EMBEDDINGS, {}, {"data": []}).result == "valid"


def test_an_invalid_schema_is_no_invalid_answer() -> None:
    request = {"response_format": {"type": "json_schema", "json_schema": {"schema": {"type": "strin"}}}}
    found = check(CHAT, request, answer(CHAT, RIGHT))
    assert found.result == "unchecked"
    assert found.reason.startswith("the schema itself is not valid: $.type: 'strin'")


NAMES = (
    *("choices", "message", "content", "type", "text", "output", "tools", "function", "name", "format", "tool_calls"),
    *("arguments", "response_format", "json_schema", "schema", "stop_reason", "status"),
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(NAMES), inner, max_size=4),
    max_leaves=20,
)


@given(st.sampled_from([CHAT, RESPONSES, MESSAGES, EMBEDDINGS]), st.dictionaries(st.text(), JSON) | JSON, JSON)
def test_strange_bodies_never_make_a_check_fail(url: str, request: Any, body: Any) -> None:
    check(url, request if isinstance(request, dict) else {}, body if isinstance(body, dict) else {})
