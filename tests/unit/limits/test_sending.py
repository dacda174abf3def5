"""When booked calls are sent, and when they must ask again: after a burst fell back, or if they are late."""

import heapq

import pytest

from limits.admission import release, sent
from limits.bucket import Quota
from limits.reservation import Admitted, Level, SendPermit, Throttle
from tests.support.provider_feedback import throttled
from tests.unit.limits.world import SECOND, World

AUTO = Quota(rpm=600, headroom=1.0)  # ten a second
EVEN = Quota(rpm=600, headroom=1.0, burst=1.0)


def leave(world: World, booked: dict[str, int], quota: Quota = AUTO) -> list[tuple[float, str]]:
    """Send booked calls as soon as allowed; return when each was sent, in seconds from now, in order.

    A call whose reservation is revoked asks again.
    """
    begun = world.now
    due = [(at, number, name) for number, (name, at) in enumerate(booked.items())]
    heapq.heapify(due)
    left: list[tuple[float, str]] = []
    while due:
        at, number, name = heapq.heappop(due)
        world.now = max(world.now, at)
        permit = world.run(sent, name, "o")
        while permit.verdict == "revoked":
            assert world.run(release, name, "o").verdict == "settled"
            name = f"{name}'"
            again = world.admitted(name, quota, max_wait=30.0, send_at_once=True)
            permit = SendPermit("sent") if again.sent else SendPermit("wait", again.wait)
        if permit.verdict == "sent":
            left.append(((world.now - begun) / SECOND, name.rstrip("'")))
        else:
            assert permit.verdict == "wait"
            heapq.heappush(due, (world.now + round(permit.wait * SECOND), number, name))
    return left


def at_the_rate(left: list[tuple[float, str]], since: float) -> bool:
    return all(at >= since + 0.1 * number - 1e-5 for number, (at, _) in enumerate(left))


def grown(world: World, count: int, step: float = 0.05) -> dict[str, int]:
    """Calls booked while the burst grows, each a little closer to the one before than the rate says."""
    world.admitted("first", AUTO, send_at_once=True)
    world.settle("first")  # before the first answer no call is booked far ahead
    booked: dict[str, int] = {}
    for number in range(count):
        world.pass_time(step)
        for name in [name for name, at in booked.items() if at <= world.now]:
            assert world.run(sent, name, "o").verdict == "sent"
            del booked[name]
        answer = world.ask(f"g{number}", AUTO, max_wait=30.0, send_at_once=True)
        if isinstance(answer, Admitted) and not answer.sent:
            booked[f"g{number}"] = answer.at
    return booked


def test_calls_booked_in_a_grown_burst_are_sent_at_the_rate_after_its_fall(world: World) -> None:
    booked = grown(world, 100)
    times = sorted(booked.values())
    assert (times[-1] - times[0]) / SECOND < 0.09 * (len(times) - 1), "booked closer than a tenth of a second"
    world.run(throttled, Throttle("b", 1.0))
    # They hold nothing any more: a call that asks first is sent first.
    assert world.admitted("first to ask", AUTO, max_wait=30.0).wait == pytest.approx(1.1, abs=0.01)
    left = leave(world, booked)
    assert at_the_rate(left, 1.0)
    assert [name for _, name in left] == list(booked), "in their order"
    assert left[-1][0] == pytest.approx(1.0 + 0.1 * len(booked), abs=0.31)


def test_what_revoked_calls_held_is_given_back_once(world: World) -> None:
    booked = grown(world, 100)
    world.run(throttled, Throttle("b", 1.0))
    world.pass_time(2.0)
    before = world.available(AUTO)
    for name in booked:
        assert world.run(sent, name, "o") == SendPermit("revoked", 0.0, "outdated")
        assert world.run(release, name, "o").verdict == "settled"
    assert world.available(AUTO) == before


def test_a_pause_ends_with_the_room_that_headers_reported(world: World) -> None:
    """As with a provider that counts the last minute: calls booked closely are sent closely."""
    world.admitted("told", AUTO, send_at_once=True)
    world.level("told", rpm=Level(600, 590))
    booked = grown(world, 160, 0.005)
    assert len(booked) > 5
    world.run(throttled, Throttle("b", 1.0))
    assert not at_the_rate(leave(world, booked), 1.0)


def test_a_429_without_a_fall_keeps_the_spacing(world: World) -> None:
    """A fixed burst does not fall: no call needs a turn."""
    for number in range(10):
        world.admitted(f"f{number}", EVEN, send_at_once=True)
    booked = {name: world.admitted(name, EVEN).at for name in ("a", "b", "c")}
    world.run(throttled, Throttle("b", 1.0))
    world.pass_time(1.0)
    left = leave(world, booked)
    assert [at for at, _ in left] == [pytest.approx(each, abs=1e-5) for each in (0.1, 0.2, 0.3)]


FORGET_VOIDS = """
local found = cmsgpack.unpack(redis.call('GET', KEYS[1]))
for _, part in ipairs(found.parts) do part.voids = nil end
redis.call('SET', KEYS[1], cmsgpack.pack(found))
"""


def test_a_call_that_an_older_version_booked_is_sent(world: World) -> None:
    booked = grown(world, 100)
    world.run(throttled, Throttle("b", 1.0))
    name = next(iter(booked))
    world.client.eval(FORGET_VOIDS, 1, world.keys.reservation(name))
    assert world.run(sent, name, "o").verdict == "wait"
    world.pass_time(1.1)
    assert world.run(sent, name, "o").verdict == "sent"
    assert world.settle(name) == "settled"


@pytest.mark.parametrize(("late", "verdict"), [(0.2, "sent"), (0.3, "revoked")])
def test_a_late_call_asks_again(world: World, late: float, verdict: str) -> None:
    for number in range(10):
        world.admitted(f"f{number}", EVEN, send_at_once=True)
    world.admitted("late", EVEN)
    world.pass_time(0.1 + late)
    assert world.run(sent, "late", "o").verdict == verdict


@pytest.mark.parametrize(
    ("before", "believed"),
    [
        pytest.param(9, 0, id="by who counts by the second: the end of one"),
        pytest.param(500, 1, id="by who has told of many"),
    ],
)
def test_a_level_that_is_a_little_lower(world: World, before: int, believed: int) -> None:
    """By a tenth of a second: the provider has not seen two of the calls, and has one less left than we believe."""
    world.admitted("first", AUTO, send_at_once=True)
    world.level("first", rpm=Level(600, before))
    world.pass_time(60)
    for name in ("a", "b", "c"):
        world.admitted(name, AUTO, send_at_once=True)
    had = world.available(AUTO)
    world.level("a", rpm=Level(600, round(had) + 1))
    assert world.available(AUTO) == pytest.approx(had - believed)
