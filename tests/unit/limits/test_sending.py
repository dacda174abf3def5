"""When booked calls are sent: after a burst fell back, and late ones among others."""

import heapq

import pytest

from limits.admission import sent
from limits.bucket import Quota
from limits.reservation import Admitted, Level, Throttle
from tests.support.provider_feedback import throttled
from tests.unit.limits.world import SECOND, World

AUTO = Quota(rpm=600, headroom=1.0)  # ten a second
EVEN = Quota(rpm=600, headroom=1.0, burst=1.0)
WIDE = Quota(rpm=600, headroom=1.0, burst=5.0)


def leave(world: World, booked: dict[str, int]) -> list[tuple[float, str]]:
    """Send booked calls as soon as allowed; return when each was sent, in seconds from now, in order."""
    begun = world.now
    due = [(at, name) for name, at in booked.items()]
    heapq.heapify(due)
    left: list[tuple[float, str]] = []
    while due:
        at, name = heapq.heappop(due)
        world.now = max(world.now, at)
        departure = world.run(sent, name, "o")
        if departure.verdict == "sent":
            left.append(((world.now - begun) / SECOND, name))
        else:
            assert departure.verdict == "wait"
            heapq.heappush(due, (world.now + round(departure.wait * SECOND), name))
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
    # The calls behind them come when all were sent at the rate.
    behind = world.admitted("behind", AUTO, max_wait=30.0).at
    left = leave(world, booked | {"behind": behind})
    assert at_the_rate(left, 1.0)
    assert [name for _, name in left[:-1]] == list(booked), "in their order"
    assert left[-1][1] == "behind"
    assert left[-1][0] == pytest.approx(1.0 + 0.1 * len(booked), abs=0.11)


def test_a_second_429_has_them_take_turns_again(world: World) -> None:
    booked = grown(world, 100)
    world.run(throttled, Throttle("b", 1.0))
    world.pass_time(1.0)
    names = sorted(booked, key=booked.__getitem__)
    first = dict.fromkeys(names[:20], world.now)
    waiting = dict.fromkeys(names[20:], world.now)
    for name in waiting:
        assert world.run(sent, name, "o").verdict == "wait"
    leave(world, first)
    world.run(throttled, Throttle("b", 1.0))
    world.pass_time(1.0)
    assert at_the_rate(leave(world, dict.fromkeys(waiting, world.now)), 0.0)


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


def test_calls_that_are_late_for_one_limit_do_not_fill_another(world: World) -> None:
    """They take up their tokens, however long the request limit holds them."""
    two = Quota(rpm=600, tpm=120_000, headroom=1.0, burst=1.0)
    costs = {"rpm": 1, "tpm": 100}  # a tenth of a second of requests, a twentieth of tokens
    for number in range(10):
        world.admitted(f"f{number}", two, costs=costs, send_at_once=True)
    booked = {name: world.admitted(name, two, costs=costs, max_wait=30.0).at for name in map("b{}".format, range(40))}
    world.pass_time(1.5)  # the worker stalled
    leave(world, booked)
    # The last one was just sent.
    assert world.available(two, "tpm") == pytest.approx(2_000 - 100, abs=1)


@pytest.mark.parametrize(
    ("quota", "wait"),
    [
        pytest.param(EVEN, 0.1, id="a second's share, where one more would be too many"),
        pytest.param(WIDE, 0.0, id="a burst, with room for it"),
    ],
)
def test_a_late_call_takes_the_place_of_the_next(world: World, quota: Quota, wait: float) -> None:
    for number in range(50 if quota is WIDE else 10):
        world.admitted(f"f{number}", quota, send_at_once=True)
    names = [f"b{number}" for number in range(5)]
    for name in names:
        world.admitted(name, quota)
    world.pass_time(0.2)
    assert world.run(sent, names[1], "o").verdict == "sent"
    world.run(sent, names[0], "o")  # a tenth of a second late
    world.pass_time(0.1)
    departure = world.run(sent, names[2], "o")
    assert (departure.verdict, departure.wait) == ("wait" if wait else "sent", pytest.approx(wait))


def test_a_late_call_with_none_behind_it_postpones_nothing(world: World) -> None:
    for number in range(10):
        world.admitted(f"f{number}", EVEN, send_at_once=True)
    world.admitted("late", EVEN)
    world.pass_time(2.0)
    assert world.run(sent, "late", "o").verdict == "sent"
    assert world.available(EVEN) == pytest.approx(9.0)


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
