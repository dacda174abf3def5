"""Chats as Gemini takes them, and its answers as chats. What cannot be translated is not carried."""

from typing import Any

import pytest

from workers.providers.batch_gemini import GeminiBatches
from workers.providers.endpoints import CHAT, EMBEDDINGS
from workers.providers.gemini_chat import NotCarried, chat_of, request_of
from workers.providers.openai import is_answer, usage_of

USER = {"role": "user", "content": "Hello"}
SAID = [{"role": "user", "parts": [{"text": "Hello"}]}]
SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}}
TOOL = {"type": "function", "function": {"name": "weather", "description": "It", "parameters": SCHEMA}}
CALL = {"id": "c1", "type": "function", "function": {"name": "weather", "arguments": '{"city":"Rome"}'}}


def asked(*messages: Any, **fields: Any) -> dict[str, Any]:
    return request_of({"model": "gemini", "messages": list(messages) or [USER], **fields})


@pytest.mark.parametrize(
    ("fields", "more"),
    [
        ({}, {}),
        ({"user": "u", "metadata": {}, "store": False, "stream": False, "parallel_tool_calls": True}, {}),
        ({"logprobs": None, "reasoning_effort": None}, {}),
        (
            {"temperature": 0, "top_p": 0.5, "n": 2, "max_tokens": 9, "seed": 1, "stop": "x"},
            {
                "generationConfig": {
                    "temperature": 0,
                    "topP": 0.5,
                    "candidateCount": 2,
                    "maxOutputTokens": 9,
                    "seed": 1,
                    "stopSequences": ["x"],
                }
            },
        ),
        ({"max_completion_tokens": 9}, {"generationConfig": {"maxOutputTokens": 9}}),
        ({"response_format": {"type": "text"}}, {}),
        ({"response_format": {"type": "json_object"}}, {"generationConfig": {"responseMimeType": "application/json"}}),
        (
            {"response_format": {"type": "json_schema", "json_schema": {"name": "n", "schema": SCHEMA}}},
            {"generationConfig": {"responseMimeType": "application/json", "responseJsonSchema": SCHEMA}},
        ),
        (
            {"tools": [TOOL], "tool_choice": "required"},
            {
                "tools": [
                    {
                        "functionDeclarations": [
                            {"name": "weather", "description": "It", "parametersJsonSchema": SCHEMA},
                        ]
                    }
                ],
                "toolConfig": {"functionCallingConfig": {"mode": "ANY"}},
            },
        ),
        (
            {"tool_choice": {"type": "function", "function": {"name": "weather"}}},
            {"toolConfig": {"functionCallingConfig": {"mode": "ANY", "allowedFunctionNames": ["weather"]}}},
        ),
    ],
)
def test_fields_are_translated(fields: dict[str, Any], more: dict[str, Any]) -> None:
    assert asked(**fields) == {"contents": SAID, **more}


def test_a_system_message_becomes_the_instruction() -> None:
    found = asked({"role": "system", "content": "Be"}, {"role": "developer", "content": "brief"}, USER)
    assert found == {"systemInstruction": {"parts": [{"text": "Be"}, {"text": "brief"}]}, "contents": SAID}


def test_tool_calls_and_their_answers_are_translated() -> None:
    signed = {**CALL, "id": "c2", "extra_content": {"google": {"thought_signature": "s"}}}
    found = asked(
        USER,
        {"role": "assistant", "content": None, "tool_calls": [CALL, signed]},
        {"role": "tool", "tool_call_id": "c1", "content": "warm"},
        {"role": "tool", "tool_call_id": "c2", "content": '{"degrees": 20}'},
        {"role": "assistant", "content": "20"},
    )
    called = {"functionCall": {"name": "weather", "args": {"city": "Rome"}}}
    assert found["contents"] == [
        *SAID,
        {"role": "model", "parts": [called, {**called, "thoughtSignature": "s"}]},
        {
            "role": "user",
            "parts": [
                {"functionResponse": {"name": "weather", "response": {"result": "warm"}}},
                {"functionResponse": {"name": "weather", "response": {"degrees": 20}}},
            ],
        },
        {"role": "model", "parts": [{"text": "20"}]},
    ]


def test_images_and_sound_go_inside_the_line() -> None:
    parts = [
        {"type": "text", "text": "See"},
        {"type": "image_url", "image_url": {"url": "data:image/png;base64,QUJD"}},
        {"type": "input_audio", "input_audio": {"format": "mp3", "data": "QUJD"}},
    ]
    assert asked({"role": "user", "content": parts})["contents"][0]["parts"] == [
        {"text": "See"},
        {"inlineData": {"mimeType": "image/png", "data": "QUJD"}},
        {"inlineData": {"mimeType": "audio/mp3", "data": "QUJD"}},
    ]


@pytest.mark.parametrize(
    "body",
    [
        {"logprobs": True},
        {"reasoning_effort": "low"},
        {"stream": True},
        {"parallel_tool_calls": False},
        {"something_new": 1},
        {"tools": [{"type": "web_search"}]},
        {"tool_choice": {"type": "allowed_tools"}},
        {"response_format": {"type": "grammar"}},
        {"messages": []},
        {"messages": "Hello"},
        {"messages": [{"role": "function", "content": "x"}]},
        {"messages": [{"role": "tool", "tool_call_id": "unknown", "content": "x"}]},
        {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "https://x/y.png"}}]}]},
        {"messages": [{"role": "user", "content": [{"type": "file", "file": {"file_id": "f"}}]}]},
        {
            "messages": [
                USER,
                {"role": "assistant", "tool_calls": [{**CALL, "function": {"name": "f", "arguments": "{"}}]},
            ]
        },
    ],
)
def test_what_has_no_equal_is_not_carried(body: dict[str, Any]) -> None:
    with pytest.raises(NotCarried):
        asked(**body) if "messages" not in body else request_of(body)
    api = GeminiBatches("acme", "https://generativelanguage.googleapis.com/v1beta/openai", 10.0)
    assert api.encode("1", CHAT, {"messages": [USER], **body}) is None


def test_another_url_is_not_carried() -> None:
    api = GeminiBatches("acme", "https://generativelanguage.googleapis.com/v1beta/openai", 10.0)
    assert api.encode("1", EMBEDDINGS, {"model": "gemini", "input": "x"}) is None


@pytest.mark.parametrize(
    ("candidate", "message", "finish"),
    [
        (
            {"content": {"parts": [{"text": "a"}, {"text": "b"}]}, "finishReason": "STOP"},
            {"content": "ab"},
            "stop",
        ),
        (
            {"content": {"parts": [{"text": "hm", "thought": True}, {"text": "a"}]}, "finishReason": "MAX_TOKENS"},
            {"content": "a"},
            "length",
        ),
        ({"finishReason": "SAFETY"}, {"content": ""}, "content_filter"),
        ({"content": {"parts": "x"}, "finishReason": "NEW"}, {"content": ""}, "stop"),
        (
            {
                "content": {"parts": [{"functionCall": {"name": "f", "args": {"a": 1}}, "thoughtSignature": "s"}]},
                "finishReason": "STOP",
            },
            {
                "content": None,
                "tool_calls": [
                    {
                        "id": "call_r_0_0",
                        "type": "function",
                        "function": {"name": "f", "arguments": '{"a":1}'},
                        "extra_content": {"google": {"thought_signature": "s"}},
                    }
                ],
            },
            "tool_calls",
        ),
    ],
)
def test_answers_are_translated(candidate: dict[str, Any], message: dict[str, Any], finish: str) -> None:
    found = chat_of({"responseId": "r", "candidates": [candidate]})
    assert found["choices"] == [
        {"index": 0, "message": {"role": "assistant", **message}, "finish_reason": finish},
    ]


def test_a_blocked_prompt_is_a_filtered_answer() -> None:
    found = chat_of({"promptFeedback": {"blockReason": "SAFETY"}})
    assert [each["finish_reason"] for each in found["choices"]] == ["content_filter"]
    assert is_answer(CHAT, found)


def test_a_response_without_anything_is_no_answer() -> None:
    assert not is_answer(CHAT, chat_of({}))


def test_thoughts_are_billed_as_output() -> None:
    usage = {
        "promptTokenCount": 10,
        "toolUsePromptTokenCount": 1,
        "candidatesTokenCount": 5,
        "thoughtsTokenCount": 7,
        "cachedContentTokenCount": 4,
        "totalTokenCount": 23,
    }
    found = usage_of(CHAT, chat_of({"candidates": [{"content": {}}], "usageMetadata": usage}))
    assert found is not None
    assert (found.input, found.output, found.cached) == (11, 12, 4)
