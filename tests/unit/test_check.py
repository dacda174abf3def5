"""What `overnight check` says of addresses and names, before it asks a server."""

import pytest

from tasks.console import check
from workers.config.settings import Settings


@pytest.mark.parametrize(
    ("base_url", "warned"),
    [
        ("http://llm.example.com/v1", True),
        ("http://10.0.0.7:8000/v1", True),
        ("https://llm.example.com/v1", False),
        ("http://127.0.0.1:8000/v1", False),
        ("http://localhost:8000/v1", False),
        ("http://[::1]:8000/v1", False),
    ],
)
def test_a_key_that_leaves_the_machine_unencrypted_is_told(base_url: str, warned: bool) -> None:
    found = check._plain_http("provider acme", base_url)
    assert [finding.state for finding in found] == ["warn"] * warned


@pytest.mark.parametrize(
    ("top", "state", "words"),
    [
        ({}, "ok", "only configured ones run: nightly"),
        ({"budget_usd": 9}, "ok", "any name runs; one that is not configured gets the defaults"),
        ({"unconfigured_workflows": True}, "warn", "any name runs, but only nightly has a budget"),
    ],
)
def test_what_becomes_of_a_mistyped_workflow_is_told(top: dict[str, object], state: str, words: str) -> None:
    settings = Settings.model_validate({"workflows": {"nightly": {"budget_usd": 5}}, **top})
    found = check._workflows(settings)
    assert found.state == state
    assert words in found.words
