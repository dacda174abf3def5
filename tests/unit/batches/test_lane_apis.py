"""The batch lane over every shape of a Batch API: what is lost on the way is neither sent nor paid twice."""

from collections.abc import Iterator
from typing import Any

import pytest

from tasks.batches import chunk_steps, offload
from tests.simulator import Simulator
from tests.support.batch_apis import APIS, KEY, connected
from tests.support.lane import Lane, publishing_to
from tests.unit.batches import conftest
from tests.unit.batches.conftest import World
from workers.providers.batch_anthropic import AnthropicBatches
from workers.providers.batch_api import Limits
from workers.providers.errors import Refused

NAMES = ("together", "azure", "anthropic", "mistral", "gemini")


@pytest.fixture(scope="module")
def one_provider() -> Iterator[Simulator]:
    with Simulator() as made:
        yield made


@pytest.fixture
def simulator(world: World, one_provider: Simulator, monkeypatch: pytest.MonkeyPatch) -> Simulator:
    publishing_to(world, monkeypatch)
    monkeypatch.setattr(chunk_steps, "AGAIN", 0.1)
    monkeypatch.setattr(offload, "AGAIN", 0.1)
    monkeypatch.setattr(chunk_steps, "LOST_AFTER", 0.4)
    monkeypatch.setattr(AnthropicBatches, "create_time", 0.4)
    one_provider.clear()
    one_provider.configure(batch_delay=0.1, batch_faults=[])
    return one_provider


def lane_of(name: str, world: World, simulator: Simulator, monkeypatch: pytest.MonkeyPatch) -> Lane:
    """A batch for a provider with this Batch API."""
    if name == "anthropic":
        chats = conftest.input_line

        def messages(*given: Any) -> dict[str, Any]:
            line: dict[str, Any] = chats(*given)
            return {**line, "url": "/v1/messages", "body": {"max_tokens": 50, **line["body"]}}

        monkeypatch.setattr(conftest, "input_line", messages)
    settings = dict(APIS[name])
    settings["base_url"] = simulator.base_url + settings.pop("path")
    return Lane(world, simulator, provider=settings)


@pytest.mark.parametrize("name", NAMES)
def test_every_line_comes_back_once_although_the_create_is_lost(
    world: World, simulator: Simulator, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    simulator.configure(batch_faults=[{"mode": "lost_create"}])
    lane = lane_of(name, world, simulator, monkeypatch)
    lane.run()
    assert [each["lines"] for each in simulator.batches()] == [20]
    assert (len(lane.results()), lane.live_lines()) == (20, [])
    lane.assert_books()


@pytest.mark.parametrize("name", ["openai", "gemini"])
def test_the_input_is_deleted_at_the_provider(
    world: World, simulator: Simulator, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    lane = lane_of(name, world, simulator, monkeypatch)
    lane.run()
    api = connected(name, simulator)
    with pytest.raises(Refused):
        list(api.download(KEY, lane.chunks[0].file_id))
    api.close()
    lane.assert_books()


@pytest.mark.long
@pytest.mark.parametrize("step", ["upload", "create", "list", "get", "content"])
@pytest.mark.parametrize("name", NAMES)
def test_any_answer_may_be_lost(
    world: World, simulator: Simulator, monkeypatch: pytest.MonkeyPatch, name: str, step: str
) -> None:
    simulator.configure(batch_faults=[{"mode": "lost_create"}, {"mode": f"lost_{step}"}, {"mode": f"error_{step}"}])
    lane = lane_of(name, world, simulator, monkeypatch)
    lane.run()
    assert [each["lines"] for each in simulator.batches()] == [20]
    assert (len(lane.results()), lane.live_lines()) == (20, [])
    lane.assert_books()


@pytest.mark.long
@pytest.mark.parametrize("name", NAMES)
def test_what_expires_goes_live(world: World, simulator: Simulator, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    simulator.configure(batch_faults=[{"mode": "expires"}])
    lane = lane_of(name, world, simulator, monkeypatch)
    lane.run()
    kept = 0 if name == "gemini" else 10  # Gemini loses everything, and bills nothing
    assert (len(lane.results()), len(lane.live_lines())) == (kept, 20 - kept)
    lane.assert_books()


def test_a_line_that_is_too_large_for_the_batch_api_goes_live(
    world: World, simulator: Simulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(AnthropicBatches, "limits", Limits(requests=100, bytes=10_000, line_bytes=10))
    lane = lane_of("anthropic", world, simulator, monkeypatch)
    lane.run()
    assert (simulator.batches(), lane.chunks) == ([], [])
