"""Which queues there are: the registry, and what stock producers leave behind."""

from celery import Celery

from tests.unit.transport.conftest import World
from workers.queues import adopt_bindings, key_prefix, register, registered, workflow_of


def test_a_queue_tells_its_workflow() -> None:
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
    turns = 0  # a look goes through some of the keys, and takes up where the last one ended
    while "workflow.found-me" not in registered(world.client, world.keys):
        world.client.delete(world.keys.queue_scan)
        adopt_bindings(world.client, world.keys, seconds=0.0)
        turns += 1
        assert turns < 100
    assert registered(world.client, world.keys) == {"workflow.found-me", "workflow.ours"}
    assert not world.client.set(world.keys.queue_scan, b"1", px=1000, nx=True), "one worker at a time"
    world.client.delete(key_prefix(world.keys.namespace) + "workflow.found-me", world.keys.queues)
