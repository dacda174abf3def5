"""Which queues there are: the registry, and what stock producers leave behind."""

import time
from collections.abc import Callable, Iterable
from typing import Any

from celery import Celery

from tests.unit.transport.conftest import World
from workers.config.settings import Settings
from workers.transport.queues import SEPARATOR, key_prefix, queue_name, register, registered, workflow_of
from workers.transport.registry import KEEP_IDLE, MAX_UNCONFIGURED, Registry


def test_a_queues_name_contains_its_workflow() -> None:
    assert workflow_of("workflow.nightly") == "nightly"
    assert workflow_of("0." * 25 + "1.0.1." + "workflow.a.b") == "a.b", "RabbitMQ leaves a delay's bits before it"
    assert workflow_of("celery") is None
    assert workflow_of("workflow.") is None
    assert workflow_of("workflow.a b") is None


def test_a_stock_producers_queue_is_found_among_many_keys(world: World) -> None:
    pipeline = world.client.pipeline()
    for number in range(20_000):
        pipeline.set(f"key-{number}", "x", ex=60)
    pipeline.execute()
    stock = Celery(
        "plain", broker=f"redis://127.0.0.1:{world.port}/0", broker_transport="kombu.transport.redis:Transport"
    )
    # A second installation on one server has queues of its own, under its namespace.
    stock.conf.broker_transport_options = {"global_keyprefix": key_prefix(world.keys.namespace)}
    with stock.connection_for_write() as connection:
        stock.send_task("overnight.job", queue="workflow.found-me", connection=connection)
    register(world.client, world.keys, "ours")
    turns = 0  # each scan reads some of the keys and continues from the last one
    while "workflow.found-me" not in registered(world.client, world.keys):
        world.client.delete(world.keys.queue_scan)
        registry(world).scan(seconds=0.0)
        turns += 1
        assert turns < 100
    assert registered(world.client, world.keys) == {"workflow.found-me", "workflow.ours"}
    assert not world.client.set(world.keys.queue_scan, b"1", px=1000, nx=True), "one worker at a time"
    world.client.delete(key_prefix(world.keys.namespace) + "workflow.found-me", world.keys.queues)


def test_names_without_messages_are_not_registered(world: World) -> None:
    """What a client does in a tenth of a second: bindings of thousands of made-up workflows."""
    before = key_prefix(world.keys.namespace)
    pipeline = world.client.pipeline(transaction=False)
    for number in range(2_000):
        pipeline.sadd(f"{before}_kombu.binding.workflow.w{number}", "x")
    pipeline.execute()
    looks(world, registry(world))
    assert registered(world.client, world.keys) == set()


def test_the_registry_takes_a_thousand_unconfigured_names_and_every_configured_one(world: World) -> None:
    fill(world, [f"w{number}" for number in range(MAX_UNCONFIGURED + 200)])
    found = registry(world, "nightly")
    looks(world, found)
    names = registered(world.client, world.keys)
    assert len(names) == MAX_UNCONFIGURED
    assert found.wanted() == {*names, "workflow.nightly"}
    drain(world, sorted(names)[:200])
    looks(world, found)
    after = registered(world.client, world.keys)
    assert len(after) == MAX_UNCONFIGURED
    assert len(after - names) == 200, "names with jobs have replaced those without"
    drain(world, [f"workflow.w{number}" for number in range(MAX_UNCONFIGURED + 200)])
    world.client.delete(world.keys.queues)


def test_a_name_without_messages_is_forgotten_after_an_hour(world: World) -> None:
    now = [1_000_000.0]
    found = registry(world, "nightly", clock=lambda: now[0])
    fill(world, ["idle", "busy"])
    looks(world, found)
    drain(world, ["workflow.idle"])
    now[0] += KEEP_IDLE - 1
    found.prune()
    assert "workflow.idle" in registered(world.client, world.keys)
    register(world.client, world.keys, "ours")
    now[0] += 2
    found.prune()
    assert registered(world.client, world.keys) == {"workflow.busy", "workflow.ours"}, "ours was first seen now"
    now[0] += KEEP_IDLE
    found.prune()
    assert registered(world.client, world.keys) == {"workflow.busy"}
    assert world.client.zcard(world.keys.queue_ages) == 1
    fill(world, ["idle"])
    looks(world, found)
    assert "workflow.idle" in registered(world.client, world.keys), "it has work again"
    drain(world, ["workflow.idle", "workflow.busy"])
    world.client.delete(world.keys.queues)


def test_names_of_our_own_producers_are_bounded_too(world: World) -> None:
    """An earlier version kept every name."""
    fill(world, ["busy"])
    pipeline = world.client.pipeline(transaction=False)
    for number in range(MAX_UNCONFIGURED + 200):
        pipeline.sadd(world.keys.queues, f"workflow.old{number}")
    pipeline.execute()
    register(world.client, world.keys, "busy")
    looks(world, registry(world))
    names = registered(world.client, world.keys)
    assert len(names) == MAX_UNCONFIGURED
    assert "workflow.busy" in names
    drain(world, ["workflow.busy"])
    world.client.delete(world.keys.queues)


def test_unconfigured_workflows_can_be_switched_off(world: World) -> None:
    found = registry(world, "nightly", unconfigured_workflows=False)
    fill(world, ["stranger", "nightly"])
    looks(world, found)
    assert found.wanted() == {"workflow.nightly"}
    drain(world, ["workflow.stranger", "workflow.nightly"])


def registry(world: World, *workflows: str, clock: Callable[[], float] = time.time, **more: Any) -> Registry:
    settings = Settings.model_validate({"workflows": {name: {} for name in workflows}, **more})
    return Registry(world.client, world.keys, settings, world.client, clock)


def looks(world: World, found: Registry) -> None:
    """As many scans as see every key of the server once."""
    while True:
        world.client.delete(world.keys.queue_scan)
        found.scan(seconds=5.0)
        if world.client.get(world.keys.queue_cursor) == b"0":
            break
    world.client.delete(world.keys.queue_scan, world.keys.queue_cursor)


def fill(world: World, workflows: Iterable[str]) -> None:
    """A message in each one's list, of some priority."""
    pipeline = world.client.pipeline(transaction=False)
    for number, workflow in enumerate(workflows):
        step = f"{SEPARATOR}6" if number % 2 else ""
        pipeline.lpush(f"{key_prefix(world.keys.namespace)}{queue_name(workflow)}{step}", "x")
    pipeline.execute()


def drain(world: World, queues: Iterable[str]) -> None:
    pipeline = world.client.pipeline(transaction=False)
    for queue in queues:
        before = key_prefix(world.keys.namespace) + queue
        pipeline.delete(before, f"{before}{SEPARATOR}6")
    pipeline.execute()
