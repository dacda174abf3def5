"""Snapshots, and their time."""

from limits.bucket import Quota
from limits.budget import BudgetWindow
from limits.snapshot import snapshot
from tests.unit.limits.world import SECOND, World


def test_a_snapshot_of_nothing_yet(world: World) -> None:
    quota = Quota(rpm=60, tpm=6_000, rpd=86_400, headroom=0.5, burst=2.0, concurrency=4)
    state = world.run(snapshot, [("b", quota)], ["c"], ["a"], [BudgetWindow("w", 5, "total")])
    bucket = state.buckets[0]
    shown = {each.name: (each.limit, each.rate, each.available, each.burst) for each in bucket.dimensions}
    assert shown == {
        "rpm": (60, 0.5, 1.0, 2.0),
        "tpm": (6_000, 50.0, 100.0, 2.0),
        "rpd": (86_400, 0.5, 43_200.0, 86_400.0),
    }
    assert (bucket.in_flight, bucket.concurrency, bucket.paused_until, bucket.urgent) == (0, 4, 0, False)
    assert (state.circuits[0].state, state.circuits[0].retries_left) == ("closed", -1.0)
    assert state.blocked_accounts == {}
    assert (state.budgets[0].spent, state.budgets[0].held, state.open_reservations) == (0, 0, 0)
    assert world.client.keys(f"{world.keys.prefix}*") == []


def test_time_never_runs_backwards(world: World) -> None:
    quota = Quota(rpm=60, headroom=1.0, burst=1.0)
    first = world.admitted("a", quota)
    world.now -= 3_600 * SECOND
    later = world.admitted("b", quota)
    assert later.at == first.at + SECOND
    assert world.run(snapshot).now == first.at


def test_the_servers_own_clock(world: World) -> None:
    seconds, micros = world.client.time()
    world.now = 0  # 0: the server's clock
    answer = world.admitted("a")
    assert 0 <= answer.at - (seconds * SECOND + micros) < 60 * SECOND
