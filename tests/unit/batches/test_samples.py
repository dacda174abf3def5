"""The sample answers that `overnight run` prints at its end, for every wire format."""

from typing import Any

import pytest

from tasks.console.batches_view import SAMPLE, answer_text


@pytest.mark.parametrize(
    ("body", "shown"),
    [
        ({"choices": [{"message": {"content": "Two\n lines"}}]}, "Two lines"),
        ({"content": [{"type": "text", "text": "a message"}]}, "a message"),
        ({"output": [{"type": "reasoning"}, {"content": [{"text": "a response"}]}]}, "a response"),
        ({"data": [{"embedding": [0.1, 0.2, 0.3]}]}, "an embedding of 3 numbers"),
        ({"priority": "high", "team": "billing"}, '{"priority":"high","team":"billing"}'),
        ({"summary": "x" * 500}, '{"summary":"' + "x" * (SAMPLE - 13) + "…"),
    ],
)
def test_the_sample_of_an_answer(body: dict[str, Any], shown: str) -> None:
    assert answer_text({"response": {"status_code": 200, "body": body}}) == shown


def test_a_line_without_an_answer_has_no_sample() -> None:
    assert answer_text({"response": None}) == ""
