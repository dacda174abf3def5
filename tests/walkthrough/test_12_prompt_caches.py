"""Lines that begin with the same long text are called together, so that the provider's prompt cache serves them."""

from collections.abc import Iterator
from typing import Any

import pytest

from tests.simulator import Simulator
from tests.support.site import Site, job

KITCHEN = ["The manual of the kettle. " * 300, "The manual of the toaster. " * 300]
BATH = ["The manual of the tap. " * 300, "The manual of the mirror. " * 300]


@pytest.fixture
def caching(provider: Simulator) -> Iterator[Simulator]:
    """The provider with a prompt cache like OpenAI's."""
    provider.configure(prompt_cache={}, models={"*": {"cached_usd_per_mtok": 0.1}})
    yield provider
    provider.configure(prompt_cache=None, models={"*": {}}, latency=0.0)


def question(number: int, manuals: list[str]) -> dict[str, Any]:
    """A question about one of the manuals, which is in the system prompt."""
    line = job(number, model="reader")
    line["body"]["messages"].insert(0, {"role": "system", "content": manuals[number % 2]})
    return line


def test_1_the_second_question_about_a_manual_costs_less(site: Site, caching: Simulator) -> None:
    before = len(caching.journal())
    batch = site.submit([question(number, KITCHEN) for number in range(1, 13)], workflow="manuals")
    status = site.wait(batch)
    assert status["request_counts"] == {"total": 12, "completed": 12, "failed": 0}
    calls = caching.journal()[before:]
    cache = status["prompt_cache"]
    assert cache["cached_tokens"] == sum(call["cached_tokens"] for call in calls) > 0
    assert status["cost_usd"] == pytest.approx(sum(call["cost_nusd"] for call in calls) / 1e9)
    assert cache["saved_usd"] == pytest.approx(cache["cached_tokens"] * 0.9 / 1e6)

    shown = site.run("status", batch).stderr
    assert f"{cache['share']:.1%} of the input tokens, saved $" in shown
    assert "prompt caches: " in site.run("costs").stdout


def test_2_each_manual_is_paid_in_full_once(site: Site, caching: Simulator) -> None:
    caching.configure(prompt_cache={}, latency=0.1)
    before = len(caching.journal())
    batch = site.submit([question(number, BATH) for number in range(101, 121)], workflow="manuals")
    assert site.wait(batch)["request_counts"]["completed"] == 20
    cached = [call["cached_tokens"] > 0 for call in caching.journal()[before:]]
    assert cached.count(False) == 2, "the first question about each; the others have waited for its answer"
