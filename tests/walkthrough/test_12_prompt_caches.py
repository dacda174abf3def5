"""Lines that begin with the same long text are called together, so that the provider's prompt cache serves them."""

from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import pytest

from tests.simulator import Simulator
from tests.support.site import Site, job

MANUALS = ["The manual of the kettle. " * 300, "The manual of the toaster. " * 300]


@pytest.fixture
def caching(provider: Simulator) -> Iterator[Simulator]:
    """The provider with a prompt cache like OpenAI's."""
    provider.configure(prompt_cache={}, models={"*": {"cached_usd_per_mtok": 0.1}})
    yield provider
    provider.configure(prompt_cache=None, models={"*": {}})


def question(number: int) -> dict[str, Any]:
    """A question about one of the manuals, which is in the system prompt."""
    line = job(number, model="reader")
    line["body"]["messages"].insert(0, {"role": "system", "content": MANUALS[number % 2]})
    return line


def test_1_the_second_question_about_a_manual_costs_less(site: Site, caching: Simulator) -> None:
    before = len(caching.journal())
    batch = site.submit([question(number) for number in range(1, 13)], workflow="manuals")
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


@pytest.mark.usefixtures("caching")
def test_2_questions_about_one_manual_follow_each_other(site: Site) -> None:
    batch = site.submit([question(number) for number in range(101, 121)], workflow="manuals")
    site.wait(batch)
    stored = (site.folder / ".overnight" / "files" / batch / "input.jsonl").read_text().splitlines()
    manuals = ["kettle" in line for line in stored]
    assert sum(one != other for one, other in pairwise(manuals)) == 3, (
        "the first of the second, then each manual's rest"
    )
    answers, _ = site.results(batch)
    assert {line["custom_id"] for line in answers} == {f"job-{number}" for number in range(101, 121)}
