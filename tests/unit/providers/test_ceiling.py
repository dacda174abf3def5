"""Which name a model takes for the ceiling of its answer."""

from typing import Any

import pytest

from tests.unit.providers.conftest import error, judge
from workers.providers.ceiling import with_ceiling_in

OF_OPENAI = "Unsupported parameter: '{}' is not supported with this model. Use '{}' instead."


@pytest.mark.parametrize(
    ("status", "body", "field"),
    [
        (
            400,
            error(OF_OPENAI.format("max_tokens", "max_completion_tokens"), "unsupported_parameter", param="max_tokens"),
            "max_completion_tokens",
        ),
        (400, error("Unrecognized request argument supplied: max_completion_tokens"), "max_tokens"),  # older Azure
        (400, error("property 'max_completion_tokens' is unsupported"), "max_tokens"),  # Groq
        (
            422,
            {
                "detail": [
                    {
                        "type": "extra_forbidden",
                        "loc": ["body", "max_completion_tokens"],
                        "msg": "Extra inputs are not permitted",
                    }
                ]
            },
            "max_tokens",
        ),  # Mistral
        (400, error("Unsupported parameter: 'temperature'", "unsupported_parameter", param="temperature"), ""),
        (400, error("max_tokens is too large: 100000. This model supports at most 4096 completion tokens."), ""),
        (404, error("max_tokens is unknown"), ""),
    ],
)
def test_the_name_of_the_ceiling_that_a_model_takes(status: int, body: Any, field: str) -> None:
    assert judge(status, body).ceiling_field == field


def test_a_ceiling_moves_to_the_other_name() -> None:
    assert with_ceiling_in({"max_tokens": 5, "n": 1}, "max_completion_tokens") == {"max_completion_tokens": 5, "n": 1}
    assert with_ceiling_in({"max_completion_tokens": 5}, "max_tokens") == {"max_tokens": 5}
    assert with_ceiling_in({"max_tokens": 9, "max_completion_tokens": 5}, "max_tokens") == {"max_tokens": 9}
    assert with_ceiling_in({"n": 1}, "max_tokens") == {"n": 1}
