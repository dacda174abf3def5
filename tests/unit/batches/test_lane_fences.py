"""A worker that is suspended inside a create: it creates nothing that another worker has given up."""

from collections.abc import Callable
from typing import Any

import pytest

from tasks.batches import chunk_steps
from tests.simulator import Simulator
from tests.support.lane import Lane
from tests.unit.batches.conftest import World, continued, ended, in_child, is_stopped, stopped
from workers.providers import batch_http, batch_openai


def suspended(lane: Lane, patch: Callable[[], None]) -> int:
    """A worker that has suspended itself inside a create, where `patch` lets it. Returns its pid."""

    def act() -> None:
        patch()
        lane.store = lane.world.connect()
        lane.run()

    pid = in_child(act)
    is_stopped(pid)
    return pid


@pytest.mark.long
@pytest.mark.parametrize("goes_on", ["another worker creates", "nobody does"])
def test_a_create_that_was_held_up_is_not_sent(
    world: World, simulator: Simulator, monkeypatch: pytest.MonkeyPatch, goes_on: str
) -> None:
    monkeypatch.setattr(chunk_steps, "FRESH", 0.3)
    lane = Lane(world, simulator)

    def patch() -> None:
        create = batch_openai.OpenAIBatches.create

        def held_up(self: Any, *args: Any) -> Any:
            stopped()
            return create(self, *args)

        batch_openai.OpenAIBatches.create = held_up  # type: ignore[method-assign]

    pid = suspended(lane, patch)
    assert simulator.batches() == []
    if goes_on == "another worker creates":
        lane.run()
        assert len(simulator.batches()) == 1
    continued(pid)
    lane.run()
    assert ended(pid) == 0
    assert len(simulator.batches()) == 1
    assert len(lane.results()) == 20
    lane.assert_books()


@pytest.mark.long
def test_a_second_provider_batch_is_cancelled_at_once(
    world: World, simulator: Simulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The worker is suspended between its last look and the bytes: no look can prevent that."""
    monkeypatch.setattr(chunk_steps, "FRESH", 0.3)
    simulator.configure(batch_delay=3.0)
    lane = Lane(world, simulator)

    def patch() -> None:
        check = batch_http.check

        def held_up(may_send: Callable[[], bool]) -> None:
            check(may_send)
            stopped()

        batch_http.check = held_up

    pid = suspended(lane, patch)
    lane.run(lambda: [chunk.state for chunk in lane.chunks] == ["running"])
    continued(pid)
    lane.run(lambda: len(simulator.batches()) == 2)
    lane.run()
    assert ended(pid) == 0
    assert [each["status"] for each in simulator.batches()] == ["completed", "cancelled"]
    assert len(lane.results()) == 20
    assert lane.live_lines() == []


def test_a_create_is_written_long_before_another_worker_gives_it_up() -> None:
    assert chunk_steps.FRESH + 60 <= chunk_steps.LOST_AFTER
