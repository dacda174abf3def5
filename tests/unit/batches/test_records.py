"""A batch's record is not trusted with the places where files are written, read or removed."""

import inspect
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tasks.batches.batch import Batch, is_batch_id, to_hash
from tasks.batches.prune import clean
from tasks.batches.store import Store
from tasks.batches.ticks import run_tick
from tasks.console import batches as commands
from tests.unit.batches.conftest import World


@pytest.fixture
def store(world: World) -> Store:
    """A store like that of the commands and ticks."""
    return Store(world.store.keys, world.store.server, world.storage)


def forged(world: World, **fields: Any) -> Batch:
    """A forged record in the lists of batches and ticks, as anyone with access to Redis can write."""
    now = time.time()
    record = {"id": "batch_x", "storage": world.storage, "status": "in_progress", "total": 1, "bytes": 1, "token": "t"}
    rest = {"workflow": "nightly", "name": "in.jsonl", "created": now, "deadline": now + 60}
    batch = Batch(**{**rest, **record, **fields})
    client, keys = world.store.client, world.store.keys
    client.hset(keys.batch(batch.id), mapping=to_hash(batch))
    client.zadd(keys.batches, {batch.id: now})
    client.zadd(keys.ticks, {f"collect:{batch.id}": 0})
    for key in (keys.batch(batch.id), keys.batches, keys.ticks):
        client.expire(key, 600)
    return batch


def test_results_are_written_where_the_configuration_says(world: World, store: Store, tmp_path: Path) -> None:
    elsewhere = tmp_path / "etc"
    batch = forged(world, storage=f"file://{elsewhere}")
    world.path(batch, "output.jsonl").parent.mkdir(parents=True)
    world.store.client.xadd(world.store.keys.results(batch.id), {"k": "1", "d": "stolen"})
    world.store.client.expire(world.store.keys.results(batch.id), 600)
    assert run_tick(store, f"collect:{batch.id}") is not None
    assert not elsewhere.exists()
    assert b"stolen" in world.path(batch, "output.jsonl").read_bytes()


@pytest.mark.parametrize("name", ["home", "batch_x/../../home", "batch_", "../batch_x", "latest/meta-data"])
def test_a_record_whose_id_is_invalid_is_ignored(world: World, store: Store, name: str, tmp_path: Path) -> None:
    victim = tmp_path / "home"
    victim.mkdir()
    (victim / "diary").write_text("private")
    batch = forged(world, id=name, storage=f"file://{tmp_path}", status="completed", ended=1.0)
    assert not is_batch_id(name)
    assert store.batch(batch.id) is None
    assert [*store.every(), *store.batches(), *store.live()] == []
    settings: Any = SimpleNamespace(storage=world.storage)
    (tmp_path / "files").mkdir(exist_ok=True)
    assert clean(settings, store, older_than=0.0, left_over=False, dry_run=False).batches == []
    assert (victim / "diary").exists()
    assert run_tick(store, f"collect:{batch.id}") is None


def test_a_record_with_the_id_of_another_key_is_ignored(world: World, store: Store) -> None:
    batch = forged(world)
    world.store.client.copy(store.keys.batch(batch.id), store.keys.batch("batch_y"))
    assert store.batch("batch_y") is None
    assert store.batch("batch_x") is not None


def test_clean_touches_only_the_configured_storage(world: World, store: Store, tmp_path: Path) -> None:
    victim = tmp_path / "srv" / "batch_x"
    victim.mkdir(parents=True)
    forged(world, storage=f"file://{victim.parent}", status="completed", ended=1.0)
    settings: Any = SimpleNamespace(storage=world.storage)
    (tmp_path / "files").mkdir(exist_ok=True)
    assert clean(settings, store, older_than=0.0, left_over=False, dry_run=False).batches == ["batch_x"]
    assert victim.exists()


def test_records_live_longer_than_clean_waits_by_default(world: World) -> None:
    world.batch(1)
    old = world.batch(1, name="batch_old")
    world.finish(old, 1)
    assert world.collect(old).over
    default = inspect.signature(commands.clean).parameters["older_than"].default * 86_400
    life = world.store.client.ttl(world.store.keys.batch(old.id))
    assert life > default + 30 * 86_400, "a month to be cleaned in"
    settings: Any = SimpleNamespace(storage=world.storage)
    world.store.note(old, ended=time.time() - default - 1)
    found = clean(settings, world.store, older_than=default, left_over=False, dry_run=False)
    assert (found.batches, found.live) == (["batch_old"], 1)
