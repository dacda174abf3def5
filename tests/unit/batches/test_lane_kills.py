"""kill -9 at every step of a chunk: nothing is created twice, no line is in two lanes, and the books are right."""

import time
from typing import Any

import pytest

from tasks.batches.chunk_journal import ChunkJournal, Superseded
from tests.simulator import Simulator
from tests.support.lane import Lane
from tests.unit.batches.conftest import World, ended, in_child, killed

pytestmark = pytest.mark.long

STATES = ("held", "uploading", "uploaded", "creating", "running", "fetching", "recording", "returning", "closed")


def killed_at(lane: Lane, state: str, *, written: bool) -> int:
    """Ticks in a child that is killed when a chunk is moved to `state`: before that is written, or after."""
    move, divide = ChunkJournal.move, ChunkJournal.divide

    def moved(self: ChunkJournal, chunk: Any, to: str = "", **changes: Any) -> Any:
        if to == state and not written:
            killed()
        found = move(self, chunk, to, **changes)
        if to == state:
            killed()
        return found

    def divided(self: ChunkJournal, *args: Any) -> bool:
        if state == "cut" and not written:
            killed()
        found = divide(self, *args)
        if state == "cut":
            killed()
        return found

    def act() -> None:
        ChunkJournal.move = moved  # type: ignore[method-assign]
        ChunkJournal.divide = divided  # type: ignore[method-assign]
        lane.store = lane.world.connect()
        lane.run()

    return ended(in_child(act))


@pytest.mark.parametrize("written", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("state", ["cut", *STATES])
def test_a_worker_is_killed_at_each_step(world: World, simulator: Simulator, state: str, *, written: bool) -> None:
    lane = Lane(world, simulator)
    assert killed_at(lane, state, written=written) == 9
    lane.run()
    assert [(each["status"], each["lines"]) for each in simulator.batches()] == [("completed", 20)]
    assert len(lane.results()) == 20
    assert lane.live_lines() == []
    lane.assert_books()


@pytest.mark.parametrize("state", ["creating", "running"])
def test_a_worker_is_killed_while_the_answer_is_lost(world: World, simulator: Simulator, state: str) -> None:
    simulator.configure(batch_faults=[{"mode": "lost_create"}])
    lane = Lane(world, simulator)
    assert killed_at(lane, state, written=True) == 9
    lane.run()
    assert len(simulator.batches()) == 1
    assert lane.live_lines() == []
    lane.assert_books()


def test_a_worker_is_killed_when_lines_have_gone_live(world: World, simulator: Simulator) -> None:
    simulator.configure(batch_faults=[{"mode": "expires"}])
    lane = Lane(world, simulator)
    assert killed_at(lane, "closed", written=False) == 9  # its messages are lost with it, as the test's list is
    lane.run()
    assert (len(lane.results()), lane.batch.offloaded) == (10, 0)
    lane.assert_books()


def test_a_cancel_that_a_killed_worker_has_not_sent_is_sent(world: World, simulator: Simulator) -> None:
    simulator.configure(batch_delay=60.0)
    lane = Lane(world, simulator)
    lane.run(lambda: [chunk.state for chunk in lane.chunks] == ["running"])
    lane.store.stop(lane.batch, "cancelled")
    ChunkJournal(lane.store, lane.id).move(lane.chunks[0], cancelled_at=time.time())
    lane.run()
    assert [each["status"] for each in simulator.batches()] == ["cancelled"]
    lane.assert_books()


def test_a_superseded_worker_leaves_the_chunk_alone(world: World, simulator: Simulator) -> None:
    lane = Lane(world, simulator)
    lane.run(lambda: [chunk.state for chunk in lane.chunks] == ["running"])
    seen = lane.chunks[0]
    journal = ChunkJournal(lane.store, lane.id)
    journal.move(seen, provider_state="moved by another")
    with pytest.raises(Superseded):
        journal.move(seen, "fetching")
    assert lane.chunks[0].provider_state == "moved by another"
