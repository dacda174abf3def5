"""The tokens that an answer reports."""

from typing import Any

import pytest

from limits.counting import Usage
from workers.providers.anthropic import Anthropic
from workers.providers.bodies import CHAT, MESSAGES, RESPONSES
from workers.providers.openai import usage_of


def usage_with_total(prompt: int, made: int, total: int, **more: Any) -> dict[str, Any]:
    return {"prompt_tokens": prompt, "completion_tokens": made, "total_tokens": total, **more}


def cached(tokens: int) -> dict[str, Any]:
    return {"prompt_tokens_details": {"cached_tokens": tokens}}


@pytest.mark.parametrize(
    ("usage", "expected"),
    [
        # Cached tokens in the total alone.
        (
            usage_with_total(100, 50, 10050, **cached(9900)),
            Usage(input=10000, cached=9900, output=50),
        ),
        (
            usage_with_total(500, 50, 850, **cached(300)),
            Usage(input=800, cached=300, output=50),
        ),
        # And thoughts beside them.
        (
            usage_with_total(100, 50, 10350, **cached(9900)),
            Usage(input=10000, cached=9900, output=350),
        ),
        # Thoughts in the total alone, with cached tokens in the prompt: xAI's and Gemini's way.
        (
            usage_with_total(100, 50, 400, **cached(60)),
            Usage(input=100, cached=60, output=300),
        ),
        (
            usage_with_total(100, 5, 145, prompt_cache_hit_tokens=64),
            Usage(input=100, cached=64, output=45),
        ),
    ],
)  # fmt: skip
def test_cached_tokens_in_the_total_are_not_output(usage: dict[str, Any], expected: Usage) -> None:
    assert usage_of(CHAT, {"usage": usage}) == expected


def test_cached_tokens_in_the_total_of_a_response() -> None:
    details = {"cached_tokens": 9900}
    usage = {"input_tokens": 100, "output_tokens": 50, "total_tokens": 10050, "input_tokens_details": details}
    assert usage_of(RESPONSES, {"usage": usage}) == Usage(input=10000, cached=9900, output=50)


@pytest.mark.parametrize(("reported", "counted"), [(30, 30), (70, 50), (None, 0), ("30", 0)])
def test_reasoning_is_a_part_of_the_output(reported: Any, counted: int) -> None:
    details = {"reasoning_tokens": reported}
    chat = usage_with_total(100, 50, 150, completion_tokens_details=details)
    assert usage_of(CHAT, {"usage": chat}) == Usage(input=100, output=50, reasoning=counted)
    response = {"input_tokens": 100, "output_tokens": 50, "total_tokens": 150, "output_tokens_details": details}
    assert usage_of(RESPONSES, {"usage": response}) == Usage(input=100, output=50, reasoning=counted)


COMPACTED = {"type": "compaction", "input_tokens": 180_000, "output_tokens": 3_500}
WRITTEN = {"type": "message", "input_tokens": 23_000, "output_tokens": 1_000}
CACHED = {"type": "message", "input_tokens": 10, "cache_read_input_tokens": 200, "output_tokens": 7}


@pytest.mark.parametrize(
    ("iterations", "expected"),
    [
        ([COMPACTED, WRITTEN], Usage(input=203_000, output=4_500)),
        ([COMPACTED, COMPACTED, WRITTEN], Usage(input=383_000, output=8_000)),
        ([COMPACTED, CACHED], Usage(input=180_210, cached=200, output=3_507)),
        # Never less than the total.
        ([{"type": "message", "input_tokens": 5, "output_tokens": 1}], Usage(input=23_000, output=1_000)),
        ("none", Usage(input=23_000, output=1_000)),
        ([7, None], Usage(input=23_000, output=1_000)),
    ],
)
def test_the_iterations_of_a_compaction_are_summed(iterations: Any, expected: Usage) -> None:
    body = {"usage": {"input_tokens": 23_000, "output_tokens": 1_000, "iterations": iterations}}
    assert Anthropic("a", "https://x", 1.0)._usage(MESSAGES, body) == expected
