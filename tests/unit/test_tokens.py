"""How bodies are counted, and what bounds the counts."""

import json
import random
import sys
import types
from collections.abc import Iterator
from typing import Any

import pytest

from limits.counting import Estimate, Usage
from workers.models import tokens
from workers.models.calibration import Ratios
from workers.providers import bodies

MODEL = "openai/gpt-4o-mini"
ENGLISH = "The parcel has not arrived yet, and nobody answers the telephone. " * 20


def chat(content: Any, **more: Any) -> dict[str, Any]:
    return {"model": "m", "messages": [{"role": "user", "content": content}], **more}


def estimate(body: Any, url: str = bodies.CHAT, **more: Any) -> Estimate:
    return tokens.estimate(url, body, **{"model": MODEL, "output_default": 4_096, **more})


def test_prose_counts_four_bytes_a_token_and_json_fewer() -> None:
    assert tokens.count(bodies.CHAT, chat(ENGLISH)) == round(len(ENGLISH) / 4) + tokens.MESSAGE_TOKENS
    records = json.dumps([{"id": n, "name": f"user {n}", "active": True} for n in range(50)])
    assert tokens.count(bodies.CHAT, chat(records)) == round(len(records) / 2.8) + tokens.MESSAGE_TOKENS


def test_other_scripts_count_by_bytes_and_not_by_characters() -> None:
    chinese = "我的订单还没有到请问现在在哪里" * 10
    assert tokens.count(bodies.CHAT, chat(chinese)) == round(len(chinese.encode()) / 4) + tokens.MESSAGE_TOKENS


def test_images_and_tools_add_tokens() -> None:
    plain = tokens.count(bodies.CHAT, chat("Look."))
    image = chat([{"type": "text", "text": "Look."}, {"type": "image_url", "image_url": {"url": "https://x/y.png"}}])
    assert tokens.count(bodies.CHAT, image) == plain + tokens.IMAGE_TOKENS
    tool = {"type": "function", "function": {"name": "look_up", "parameters": {"type": "object"}}}
    assert tokens.count(bodies.CHAT, chat("Look.", tools=[tool])) > plain + tokens.TOOLS_TOKENS


def test_each_provider_has_its_own_image_ceiling() -> None:
    image = chat([{"type": "image_url", "image_url": {"url": "https://x/y.png"}}])
    plain = tokens.ceiling(bodies.CHAT, chat([]))
    assert tokens.ceiling(bodies.CHAT, image, model="openai/gpt-4o-mini") == plain + 48_169
    assert tokens.ceiling(bodies.CHAT, image, model="openai/gpt-5") == plain + 24_600
    claude = {"messages": [{"role": "user", "content": [{"type": "image", "source": {"type": "url"}}]}]}
    assert tokens.ceiling(bodies.MESSAGES, claude) == plain + 4_784


def test_hidden_content_is_bounded_by_the_window() -> None:
    body = {"input": "And then?", "previous_response_id": "resp_1"}
    assert tokens.ceiling(bodies.RESPONSES, body, window=128_000) == 128_000
    assert estimate(body, bodies.RESPONSES).input_ceiling == tokens.WINDOW
    assert estimate(body, bodies.RESPONSES).counted == 0


def test_no_text_has_more_tokens_than_its_ceiling() -> None:
    # A vocabulary without any merge makes a token a byte: the worst that there can be.
    rng = random.Random(5)
    for _ in range(300):
        texts = ["".join(chr(rng.choice([rng.randint(32, 126), rng.randint(0x400, 0xD7FF)])) for _ in range(40))]
        body = {"messages": [{"role": "user", "content": text} for text in texts * rng.randint(1, 5)]}
        worst = sum(len(message["content"].encode()) for message in body["messages"])
        known = estimate(body)
        assert known.input_ceiling >= worst
        assert 1 <= known.input <= known.input_ceiling


def test_max_tokens_is_what_the_body_states_over_all_its_answers() -> None:
    stated = estimate(chat("Hi", max_completion_tokens=50, n=3))
    assert (stated.max_tokens, stated.output_ceiling) == (150, 150)
    silent = estimate(chat("Hi", n=3), output_default=1_000)
    assert (silent.max_tokens, silent.output_ceiling, silent.output) == (None, 3_000, None)
    embedding = estimate({"input": ["a", "b"]}, bodies.EMBEDDINGS)
    assert (embedding.output_ceiling, embedding.output) == (0, 0)


def nested(depth: int) -> Any:
    value: Any = "x"
    for level in range(depth):
        value = [value] if level % 2 else {"content": value}
    return value


@pytest.mark.parametrize(
    "body",
    [
        None,
        7,
        "text",
        [],
        {},
        {"messages": None},
        {"messages": {"role": 3}},
        {"messages": [None, 3, "x", [[]], {"content": 12}, {"content": {"type": []}}]},
        {
            "messages": [
                {
                    "role": "user",
                    "content": [{"type": "image_url", "image_url": 3}, {"type": "file", "file": 1}],
                }
            ]
        },
        {
            "input": {"a": 1e308},
            "tools": "none",
            "max_tokens": -1,
            "max_completion_tokens": True,
            "n": "many",
        },
        {"messages": [{"role": "user", "content": "half a pair \ud800"}], "tools": [{"name": "\udfff"}]},
        {"messages": nested(200)},
        {"messages": nested(100_000)},
        {"messages": [{"role": "user", "content": nested(100_000)}], "tools": [nested(5_000)]},
        {"messages": [{"role": "user", "content": 10**400}]},
    ],
    ids=lambda body: str(type(body)),
)
@pytest.mark.parametrize("url", [*sorted(bodies.ENDPOINTS), "/agents/triage", ""])
def test_no_body_raises(url: str, body: Any) -> None:
    known = estimate(body, url)
    assert 1 <= known.input <= known.input_ceiling
    assert known.output_ceiling >= 0


def test_an_unreadable_body_counts_by_its_size() -> None:
    body = {"messages": [{"role": "user", "content": nested(100_000)}, {"role": "user", "content": "x" * 50_000}]}
    assert estimate(body).input_ceiling > 150_000


# ---- the tokenizer ----------------------------------------------------------------------------------------


@pytest.fixture
def tokenizer(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """Stands in for the optional package, with the interface of `toktok.batch_count`: a token a word."""
    sizes: list[int] = []

    def batch_count(texts: Any, encoding: str, threads: int) -> list[int]:
        assert (encoding, threads) == ("o200k_base", 1)
        sizes.extend(len(text.encode()) for text in texts)
        return [len(text.split()) for text in texts]

    module = types.ModuleType("toktok")
    module.batch_count = batch_count  # type: ignore[attr-defined]  # a module made here
    monkeypatch.setitem(sys.modules, "toktok", module)
    monkeypatch.setattr(tokens, "_count_batch", None)
    assert tokens.load_tokenizer()
    yield sizes
    tokens._count_batch = None


def test_a_loaded_tokenizer_counts_texts_up_to_a_size(tokenizer: list[int]) -> None:
    assert tokens.count(bodies.CHAT, chat("one two three")) == 3 + tokens.MESSAGE_TOKENS
    del tokenizer[:]
    long = "word " * 10_000
    assert tokens.count(bodies.CHAT, chat(long)) == len(long) / 4 + tokens.MESSAGE_TOKENS
    assert tokenizer == []


@pytest.mark.usefixtures("tokenizer")
def test_text_that_the_tokenizer_refuses_counts_by_bytes() -> None:
    assert tokens.count(bodies.CHAT, chat("\ud800" * 4)) == 3 + tokens.MESSAGE_TOKENS


def test_without_the_tokenizer_texts_count_by_bytes(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(tokens, "_count_batch", None)
    monkeypatch.setitem(sys.modules, "toktok", None)
    assert not tokens.load_tokenizer()
    assert tokens.count(bodies.CHAT, chat("one two three.")) == round(14 / 4) + tokens.MESSAGE_TOKENS
    assert caplog.text == ""


@pytest.mark.parametrize("error", [KeyError("unknown encoding"), TypeError("threads"), OSError("no such vocabulary")])
def test_a_broken_tokenizer_is_logged_and_skipped(
    error: Exception, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def batch_count(*_: Any, **_options: Any) -> list[int]:
        raise error

    monkeypatch.setattr(tokens, "_count_batch", None)
    monkeypatch.setitem(sys.modules, "toktok", types.SimpleNamespace(batch_count=batch_count))
    assert not tokens.load_tokenizer()
    assert f"the tokenizer cannot be used, texts count by their bytes: {error!r}" in caplog.text
    assert tokens.count(bodies.CHAT, chat("one two three.")) == round(14 / 4) + tokens.MESSAGE_TOKENS


def test_an_estimate_is_calibrated_separately_for_media() -> None:
    ratios = Ratios("k")
    body = chat(ENGLISH, max_tokens=100)
    first = estimate(body, ratios=ratios)
    assert first.input == first.counted
    for _ in range(100):
        ratios.observe(MODEL, first, Usage(input=2 * first.counted, output=30))
    second = estimate(body, ratios=ratios)
    assert second.input == pytest.approx(2 * first.counted, rel=0.05)
    assert (second.counted, second.output) == (first.counted, 30)
    image = estimate(chat([{"type": "image_url", "image_url": {"url": "https://x/y.png"}}]), ratios=ratios)
    assert (image.input, image.output, image.media) == (image.counted, None, True)
    assert estimate(body, ratios=ratios, model="openai/other").output is None
