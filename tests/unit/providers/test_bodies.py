"""Bodies before they are sent: what is wrong with them, how long the answer may be, what the model reads."""

from typing import Any

import orjson
import pytest

from workers.providers.bodies import (
    CHAT,
    EMBEDDINGS,
    ENDPOINTS,
    MESSAGES,
    RESPONSES,
    check_body,
    output_ceiling,
    prompt,
    with_output_ceiling,
)

HELLO = [{"role": "user", "content": "Hello"}]

GOOD: list[tuple[str, dict[str, Any]]] = [
    (CHAT, {"messages": HELLO}),
    (CHAT, {"messages": HELLO, "stream": False, "n": 1, "max_tokens": None, "a_field_of_tomorrow": {"x": 1}}),
    (CHAT, {"messages": [{"role": "user", "content": [{"type": "text", "text": "Hi"}]}], "temperature": 0}),
    (CHAT, {"messages": [*HELLO, {"role": "assistant", "content": None, "tool_calls": []}]}),
    (RESPONSES, {"input": "Hello"}),
    (RESPONSES, {"input": [{"role": "user", "content": "Hello"}], "max_output_tokens": 16}),
    (RESPONSES, {"prompt": {"id": "pmpt_1"}}),
    (EMBEDDINGS, {"input": "Hello"}),
    (EMBEDDINGS, {"input": ["a", "b"]}),
    (EMBEDDINGS, {"input": [1, 2, 3]}),
    (EMBEDDINGS, {"input": [[1, 2], [3]]}),
    (MESSAGES, {"messages": HELLO, "max_tokens": 10, "system": "Be kind"}),
    (MESSAGES, {"messages": HELLO, "system": [{"type": "text", "text": "Be kind"}]}),
]

BAD: list[tuple[str, Any, str]] = [
    (CHAT, {}, "messages is missing"),
    (CHAT, [], "body must be a JSON object"),
    (CHAT, None, "body must be a JSON object"),
    (CHAT, {"messages": []}, "at least one message"),
    (CHAT, {"messages": "Hello"}, "at least one message"),
    (CHAT, {"messages": ["Hello"]}, "messages[0] must be an object"),
    (CHAT, {"messages": [{"content": "Hello"}]}, "messages[0].role is missing"),
    (CHAT, {"messages": [{"role": "user"}]}, "messages[0].content is missing"),
    (CHAT, {"messages": [{"role": "user", "content": 5}]}, "messages[0].content must be"),
    (CHAT, {"messages": [{"role": "user", "content": ["Hi"]}]}, "messages[0].content[0] must be an object"),
    (CHAT, {"messages": HELLO, "stream": True}, "stream must be false"),
    (CHAT, {"messages": HELLO, "stream": "yes"}, "stream must be false"),
    (CHAT, {"messages": HELLO, "n": 0}, "n must be a whole number from 1 to 128"),
    (CHAT, {"messages": HELLO, "n": 129}, "n must be"),
    (CHAT, {"messages": HELLO, "n": True}, "n must be"),
    (CHAT, {"messages": HELLO, "max_tokens": -1}, "max_tokens must be"),
    (CHAT, {"messages": HELLO, "max_tokens": "100"}, "max_tokens must be"),
    (CHAT, {"messages": HELLO, "max_completion_tokens": 1.5}, "max_completion_tokens must be"),
    (CHAT, {"messages": HELLO, "max_tokens": 10**30}, "max_tokens must be"),
    (CHAT, {"messages": HELLO, "temperature": "hot"}, "temperature must be a number"),
    (CHAT, {"messages": HELLO, "tools": {}}, "tools must be a list"),
    (RESPONSES, {}, "input is missing"),
    (RESPONSES, {"input": []}, "not empty"),
    (RESPONSES, {"input": ["Hello"]}, "input[0] must be an object"),
    (RESPONSES, {"input": "Hello", "background": True}, "background must be false"),
    (EMBEDDINGS, {}, "input is missing"),
    (EMBEDDINGS, {"input": ["a", 1]}, "all of one kind"),
    (EMBEDDINGS, {"input": [None]}, "all of one kind"),
    (EMBEDDINGS, {"input": [[]]}, "input must be"),
    (EMBEDDINGS, {"input": ["a"] * 2049}, "at most 2048"),
    (MESSAGES, {"messages": HELLO, "system": 1}, "system must be"),
    ("/v1/images", {"messages": HELLO}, "url must be one of"),
]


@pytest.mark.parametrize(("url", "body"), GOOD)
def test_a_good_body_has_no_problem(url: str, body: dict[str, Any]) -> None:
    assert check_body(url, body) == []


@pytest.mark.parametrize(("url", "body", "words"), BAD, ids=[row[2] for row in BAD])
def test_a_bad_body_is_told_what_and_where(url: str, body: Any, words: str) -> None:
    problems = check_body(url, body)
    assert any(words in problem for problem in problems), problems


def test_problems_quote_nothing_and_are_bounded() -> None:
    body = {
        "messages": [{"role": "user", "content": {"SECRET": 1}}] * 1000,
        "stream": "SECRET",
        "n": "SECRET",
    }
    problems = check_body(CHAT, body)
    assert len(problems) == 6
    assert problems[-1] == "and more problems in this body"
    assert "SECRET" not in " ".join(problems)


@pytest.mark.parametrize(
    ("url", "body", "ceiling"),
    [
        (CHAT, {}, None),
        (CHAT, {"max_tokens": 100}, 100),
        (CHAT, {"max_completion_tokens": 200}, 200),
        (CHAT, {"max_tokens": 100, "max_completion_tokens": 200}, 200),
        (CHAT, {"max_tokens": 100, "n": 3}, 300),
        (CHAT, {"max_tokens": None}, None),
        (CHAT, {"max_tokens": "100"}, None),
        (RESPONSES, {"max_output_tokens": 50}, 50),
        (RESPONSES, {"max_tokens": 50}, None),
        (MESSAGES, {"max_tokens": 70, "n": 5}, 70),
        (EMBEDDINGS, {"input": "x"}, 0),
    ],
)
def test_ceiling(url: str, body: dict[str, Any], ceiling: int | None) -> None:
    assert output_ceiling(url, body) == ceiling


@pytest.mark.parametrize(
    ("url", "body", "model", "field"),
    [
        (CHAT, {}, "gpt-5-mini", "max_completion_tokens"),
        (CHAT, {}, "openai/o3", "max_completion_tokens"),
        # Predicted outputs do not take the newer field.
        (CHAT, {"prediction": {"type": "content", "content": "x"}}, "gpt-4o", "max_tokens"),
        # github.com/editor-code-assistant/eca/issues/231: Mistral refuses the newer field.
        (CHAT, {}, "mistral-small-latest", "max_tokens"),
        (CHAT, {}, "llama-3.3-70b", "max_tokens"),
        (CHAT, {"max_tokens": 5}, "gpt-5", "max_tokens"),
        (CHAT, {"max_completion_tokens": 5}, "llama", "max_completion_tokens"),
        (RESPONSES, {}, "gpt-5", "max_output_tokens"),
        (MESSAGES, {}, "claude", "max_tokens"),
    ],
)
def test_a_ceiling_is_set_in_the_field_that_the_model_takes(
    url: str, body: dict[str, Any], model: str, field: str
) -> None:
    before = orjson.dumps(body)
    changed = with_output_ceiling(url, body, 64, model=model)
    assert changed == {**body, field: 64}
    assert output_ceiling(url, changed) == 64
    assert orjson.dumps(body) == before


def test_the_model_reads_text_images_files_and_tools() -> None:
    tools = [{"type": "function", "function": {"name": "look", "parameters": {}}}]
    read = prompt(
        CHAT,
        {
            "messages": [
                {"role": "system", "content": "Be kind."},
                {
                    "role": "user",
                    "content": [
                        {"type": "text", "text": "What is this?"},
                        {"type": "image_url", "image_url": {"url": "https://example.com/x.png"}},
                        {"type": "file", "file": {"filename": "a.pdf", "file_data": "A" * 4000}},
                    ],
                },
                {
                    "role": "assistant",
                    "content": None,
                    "tool_calls": [{"id": "c1", "type": "function", "function": {"name": "look", "arguments": "{}"}}],
                },
                {"role": "tool", "tool_call_id": "c1", "content": "a cat"},
            ],
            "tools": tools,
        },
    )
    assert read.texts == ("Be kind.", "What is this?", "look", "{}", "a cat")
    assert (read.messages, read.images, read.files, read.file_bytes) == (4, 1, 1, 3000)
    assert read.tools == orjson.dumps(tools)
    assert not read.hidden


def test_anthropics_blocks() -> None:
    read = prompt(
        MESSAGES,
        {
            "system": [{"type": "text", "text": "Be kind.", "cache_control": {"type": "ephemeral"}}],
            "messages": [
                {
                    "role": "assistant",
                    "content": [{"type": "tool_use", "id": "t", "name": "look", "input": {"q": 1}}],
                },
                {
                    "role": "user",
                    "content": [
                        {
                            "type": "tool_result",
                            "tool_use_id": "t",
                            "content": [{"type": "text", "text": "a cat"}],
                        },
                        {"type": "image", "source": {"type": "base64", "data": "AAAA"}},
                        {"type": "document", "source": {"type": "text", "data": "a page"}, "title": "T"},
                        {"type": "document", "source": {"type": "base64", "data": "A" * 400}},
                    ],
                },
            ],
        },
    )
    assert read.texts == ("Be kind.", "look", '{"q":1}', "a cat", "a page", "T")
    assert (read.images, read.files, read.file_bytes) == (1, 2, 300)


@pytest.mark.parametrize(
    ("url", "body"),
    [
        (RESPONSES, {"input": "x", "previous_response_id": "resp_1"}),
        (RESPONSES, {"input": "x", "tools": [{"type": "web_search"}]}),
        (RESPONSES, {"input": [{"role": "user", "content": [{"type": "input_file", "file_id": "f"}]}]}),
        (MESSAGES, {"messages": HELLO, "tools": [{"type": "web_search_20250305", "name": "web_search"}]}),
        (CHAT, {"messages": HELLO, "web_search_options": {}}),
    ],
)
def test_what_the_body_does_not_hold_is_told(url: str, body: dict[str, Any]) -> None:
    assert prompt(url, body).hidden


def test_embeddings_of_text_and_of_tokens() -> None:
    assert prompt(EMBEDDINGS, {"input": ["a", "b"]}).texts == ("a", "b")
    assert prompt(EMBEDDINGS, {"input": [[1, 2], [3]]}).token_ids == 3


HOSTILE: list[Any] = [
    None,
    0,
    "",
    [],
    {},
    [None],
    [[[]]],
    {"content": {"type": []}},
    [{"type": {}, "content": 7}],
    "\ud800",
]


@pytest.mark.parametrize("url", sorted(ENDPOINTS))
@pytest.mark.parametrize("value", HOSTILE, ids=repr)
def test_hostile_values_raise_nothing(url: str, value: Any) -> None:
    fields = (
        "messages",
        "input",
        "system",
        "tools",
        "n",
        "max_tokens",
        "instructions",
        "response_format",
        "stream",
    )
    for body in [dict.fromkeys(fields, value), *({field: value} for field in fields)]:
        assert isinstance(check_body(url, body), list)
        output_ceiling(url, body)
        prompt(url, body)
