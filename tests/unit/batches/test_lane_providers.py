"""Each Batch API carries a batch through the whole lane, and a create whose id was lost in a crash is found again."""

from collections.abc import Iterator
from typing import Any

import pytest

from tasks.batches import chunk_steps
from tasks.batches.chunk_journal import ChunkJournal
from tests.simulator import Simulator
from tests.support.batch_apis import APIS
from tests.support.lane import Lane, publishing_to
from tests.unit.batches import conftest
from tests.unit.batches.conftest import World, ended, in_child, killed


@pytest.fixture(scope="module")
def provider() -> Iterator[Simulator]:
    with Simulator(batch_delay=0.1) as made:
        yield made


@pytest.fixture(params=APIS)
def lane(world: World, provider: Simulator, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Lane:
    publishing_to(world, monkeypatch)
    monkeypatch.setattr(chunk_steps, "AGAIN", 0.1)
    monkeypatch.setattr(chunk_steps, "LOST_AFTER", 0.4)
    provider.clear()
    settings = {**APIS[request.param]}
    settings["base_url"] = provider.base_url + settings.pop("path")
    if settings["api"] == "anthropic":
        of_chat = conftest.input_line

        def of_messages(number: int, text: str = "") -> dict[str, Any]:
            line = of_chat(number, text)
            return {**line, "url": "/v1/messages", "body": {**line["body"], "max_tokens": 50}}

        monkeypatch.setattr(conftest, "input_line", of_messages)
    return Lane(world, provider, 8, provider=settings)


def assert_all_came_once(lane: Lane) -> None:
    assert (len(lane.results()), lane.live_lines()) == (8, [])
    assert len(lane.simulator.batches()) == 1
    lane.assert_books()


def test_each_batch_api_carries_a_batch(lane: Lane) -> None:
    lane.run()
    assert_all_came_once(lane)


@pytest.mark.long
def test_a_provider_batch_whose_id_was_lost_is_found(lane: Lane) -> None:
    move = ChunkJournal.move

    def moved(self: ChunkJournal, chunk: Any, to: str = "", **changes: Any) -> Any:
        if to == "running":
            killed()
        return move(self, chunk, to, **changes)

    def act() -> None:
        ChunkJournal.move = moved  # type: ignore[method-assign]
        lane.store = lane.world.connect()
        lane.run()

    assert ended(in_child(act)) == 9
    lane.run()
    assert_all_came_once(lane)
