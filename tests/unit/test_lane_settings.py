"""The lanes in overnight.toml: what is read, and what is refused with words."""

from typing import Any

import pytest
from pydantic import ValidationError

from workers.config.fields import lanes
from workers.config.provider_settings import ModelQuota
from workers.config.workflow_settings import WorkflowSettings


@pytest.mark.parametrize(
    ("written", "read"),
    [
        (["live"], ("live",)),
        (["live", "batch"], ("batch", "live")),
        ("auto", ("batch", "flex", "live")),
        (["live", "flex"], ("flex", "live")),
        ("batch, live", ("batch", "live")),
    ],
)
def test_lanes_are_read_cheapest_first(written: Any, read: tuple[str, ...]) -> None:
    assert WorkflowSettings(lanes=written).lanes == read
    assert lanes(written) == read


@pytest.mark.parametrize(
    ("written", "words"),
    [
        (["batch"], 'must contain "live"'),
        ([], 'must contain "live"'),
        (["bus", "live"], 'must be "auto" or a list of batch, flex, live'),
        (["live", "live"], 'must be "auto" or a list of batch, flex, live, each once'),
        (3, 'must be "auto" or a list of batch, flex, live'),
    ],
)
def test_other_lanes_are_refused(written: Any, words: str) -> None:
    with pytest.raises(ValidationError) as refused:
        WorkflowSettings(lanes=written)
    assert words in str(refused.value)


def test_only_live_calls_are_the_default() -> None:
    assert WorkflowSettings().lanes == ("live",)


@pytest.mark.parametrize(
    "wrong", [{"batch_enqueued_tokens": 0}, {"batch_price": 2}, {"batch_price": 0}, {"flex_price": 1.1}]
)
def test_a_models_batch_limits_are_checked(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        ModelQuota(**wrong)
