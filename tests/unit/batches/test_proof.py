"""Only lines that the feed has published may run and end: begin and finish refuse all others, and write nothing."""

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from tasks.batches import ticks
from tasks.jobs.proof import proof
from tasks.jobs.store import Outcome, begin, finish
from tests.unit.batches.conftest import World


def everything(world: World) -> dict[bytes, Any]:
    client = world.store.client
    keys = [key for key in client.scan_iter(count=1000) if key != world.store.keys.clock.encode()]
    # The dump of a large hash holds its fields in no certain order.
    return {key: client.hgetall(key) if client.type(key) == b"hash" else client.dump(key) for key in keys}


@pytest.mark.parametrize(
    "forged",
    [
        {"proof": ""},
        {"proof": proof("another batch's token", 2, 0)},
        {"number": 3},  # with the proof of line 2
        {"round": 1},
        {"workflow": "mallory"},
        {"number": 0},
        {"number": 1_073_741_823},
        {"number": (1 << 32) - 1},
    ],
    ids=str,
)
def test_a_line_without_its_proof_is_refused_and_nothing_is_written(world: World, forged: dict[str, Any]) -> None:
    batch = world.batch(5)
    job = replace(world.job(batch, 2), **forged)
    before = everything(world)
    assert world.store.server.run(begin(world.store.keys, job, "me")).verdict == "refused"
    outcome = Outcome(ok=True, line=b"{}", cost=7, input_tokens=1, output_tokens=1)
    assert not world.store.server.run(finish(world.store.keys, job, outcome, calls=1)).counts
    assert everything(world) == before
    assert world.begin(batch, 2) == "run"


@pytest.mark.parametrize("line", [0, 6_000, 1_073_741_823])
def test_a_line_number_outside_the_file_is_refused(world: World, line: int) -> None:
    batch = world.batch(5)
    assert world.begin(batch, line) == "refused"


def test_a_record_without_a_token_refuses_every_line(world: World) -> None:
    batch = world.batch(5)
    world.store.note(batch, token="")
    assert world.begin(batch, 2) == "refused"
    job = replace(world.job(batch, 2), proof=proof(" ", 2, 0))
    assert world.store.server.run(begin(world.store.keys, job, "me")).verdict == "refused"


def test_after_its_end_a_batch_takes_no_result(world: World) -> None:
    batch = world.batch(3)
    world.finish(batch, 1, 2)
    world.finish(batch, 3, ok=False)
    ended = world.collect(world.collect(batch))
    assert ended.over
    world.finish(ended, 3)  # its status says that it has ended
    world.store.client.delete(world.store.keys.failed(batch.id))
    world.finish(ended, 3)
    after = world.now(batch)
    assert (after.completed, after.failed) == (2, 1)


def test_a_token_is_in_no_text_of_its_batch(world: World) -> None:
    batch = world.now(world.batch(1))
    assert len(batch.token) == 32
    assert batch.token not in repr(batch) + str(batch.shown())


def test_a_batch_of_an_earlier_version_gets_a_token(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its queued lines have no proof, so they are refused, found missing, and published again."""
    batch = world.batch(3)
    world.store.client.hdel(world.store.keys.batch(batch.id), "token")
    assert world.now(batch).token == ""
    settings: Any = SimpleNamespace(visibility_timeout=60.0)
    monkeypatch.setattr(ticks, "current_settings", lambda: settings)
    monkeypatch.setattr(ticks, "publish", world.publish)
    monkeypatch.setattr(ticks, "depth", lambda *_: None)
    ticks.run_tick(world.store, f"feed:{batch.id}")
    token = world.now(batch).token
    assert len(token) == 32
    assert len(world.queue) == 3
    ticks.run_tick(world.store, f"feed:{batch.id}")
    assert world.now(batch).token == token
    assert world.begin(batch, 1) == "run"
