"""Which levels are believed that headers report."""

import pytest

from limits.bucket import Quota
from limits.reservation import Level, Throttle
from tests.support.provider_feedback import observe, throttled
from tests.unit.limits.bursts import AUTO, FIXED, RPM, call, drain, press
from tests.unit.limits.world import World


@pytest.mark.parametrize(
    ("quota", "told", "available"),
    [
        pytest.param(AUTO, Level(RPM, 11), 7.0, id="higher, but not by a second's share"),
        pytest.param(AUTO, Level(RPM, 500), 7.5, id="behind the last call, but for a quarter of a second"),
        pytest.param(AUTO, Level(RPM, 4), 2.0, id="lower than ours"),
        pytest.param(AUTO, Level(RPM, 0), -2.0, id="someone else has used the key: debt"),
        pytest.param(AUTO, Level(None, 4), 2.0, id="the limit is not told"),
        pytest.param(AUTO, Level(RPM, None), 7.0, id="only the limit is told"),
        pytest.param(AUTO, Level(None, None), 7.0, id="nothing is told"),
        pytest.param(AUTO, Level(10 * RPM, 10 * RPM), 7.0, id="a limit above ours cannot raise us"),
        pytest.param(AUTO, Level(10 * RPM, 6), 4.0, id="what is left of it binds"),
        pytest.param(FIXED, Level(RPM, RPM), 47.0, id="a fixed burst is never raised"),
        pytest.param(FIXED, Level(RPM, 19), 17.0, id="and is lowered like any other"),
    ],
)
def test_levels(world: World, quota: Quota, told: Level, available: float) -> None:
    """The provider has seen the first of three calls."""
    for name in ("first", "second", "third"):
        call(world, name, quota)
    assert world.level("first", rpm=told) == "settled"
    assert world.available(quota) == pytest.approx(available, abs=1e-3)


def test_a_higher_level_is_believed_but_for_a_second_of_the_rate(world: World) -> None:
    """It may be the share of this second that booked calls are going to use."""
    press(world, 6)
    drain(world, AUTO)
    burst = world.burst(AUTO)
    world.pass_time(0.1)
    call(world, "last")
    world.level("last", rpm=Level(RPM, 17))
    assert world.burst(AUTO) == pytest.approx(burst, abs=0.1)
    assert world.available(AUTO) == pytest.approx(7.0, abs=1e-3)


def test_a_higher_level_leaves_room_for_unsent_calls(world: World) -> None:
    press(world, 10)
    drain(world, AUTO)
    world.pass_time(1.0)
    call(world, "first")
    since = drain(world, AUTO)
    assert since > 8
    assert world.admitted("booked", AUTO, max_wait=1.0).wait > 0
    world.level("first", rpm=Level(RPM, 30))
    # One more is booked, and a second's ten stay.
    assert world.available(AUTO) == pytest.approx(30.0 - since - 1 - 10, abs=0.5)


def test_an_older_header_is_ignored(world: World) -> None:
    call(world, "old")
    world.pass_time(0.1)
    call(world, "new")
    world.level("new", rpm=Level(RPM, 5))
    before = world.bucket(AUTO)
    world.level("old", rpm=Level(RPM, 100))
    assert world.bucket(AUTO).dimensions == before.dimensions


def test_a_lower_limit_slows_down_and_a_higher_one_ends_that(world: World) -> None:
    call(world, "slow")
    world.level("slow", rpm=Level(RPM // 2, None))
    assert world.bucket(AUTO).dimensions[0].limit == RPM // 2
    assert world.bucket(AUTO).dimensions[0].rate == pytest.approx(5.0)
    world.pass_time(1)
    call(world, "fast")
    world.level("fast", rpm=Level(2 * RPM, None))
    assert world.bucket(AUTO).dimensions[0].limit == RPM


def test_observed_levels_only_lower(world: World) -> None:
    for name in ("a", "b"):
        call(world, name)
    world.run(observe, "b", {"rpm": Level(RPM, RPM)}, world.now)
    assert world.available(AUTO) == pytest.approx(8.0, abs=1e-3)
    world.run(observe, "b", {"rpm": Level(RPM, 5)}, world.now)
    assert world.available(AUTO) == pytest.approx(5.0, abs=1e-3)
    world.run(observe, "b", {"rpm": Level(RPM, 1)}, world.now - 1)
    assert world.available(AUTO) == pytest.approx(5.0, abs=1e-3)
    world.run(observe, "unknown", {"rpm": Level(RPM, 1)}, world.now)
    world.run(observe, "b", {"tpm": Level(RPM, 1)}, world.now)
    assert world.available(AUTO) == pytest.approx(5.0, abs=1e-3)


def test_what_headroom_keeps_unused_is_no_debt_after_a_pause(world: World) -> None:
    """A minute's quota is used up: the first call is sent when the provider said."""
    quota = Quota(rpm=RPM, headroom=0.9)
    call(world, "much", quota)
    world.level("much", rpm=Level(RPM, RPM - 1))
    for _ in range(8):
        press(world, 1, quota)
    call(world, "last", quota)
    call(world, "refused", quota)
    world.level("last", rpm=Level(RPM, 0))
    assert world.available(quota) < -40, "a tenth of a minute is not ours"
    world.settle("refused", throttles=(Throttle("b", 30.0),), outcome="neutral")
    assert world.denied("early", quota, max_wait=29.9).reason == "pause"
    world.pass_time(30)
    # Its own ninth of a second. The refused call was sent after the last header, but the 429 named the wait.
    assert world.admitted("first", quota).wait == pytest.approx(1 / 9, abs=0.001)


def test_a_bucket_of_a_version_that_kept_less_of_headers_is_read(world: World) -> None:
    call(world, "told")
    call(world, "open")
    world.run(throttled, Throttle("b", 6.0))
    shorten = (
        "local b, r = cmsgpack.unpack(redis.call('GET', KEYS[1])), cmsgpack.unpack(redis.call('GET', KEYS[2])); "
        "for _, d in pairs(b.dims) do for i = 16, 20 do d[i] = nil end end; "
        "for _, d in pairs(r.parts[1].dims) do d[6] = nil end; "
        "redis.call('SET', KEYS[1], cmsgpack.pack(b)); redis.call('SET', KEYS[2], cmsgpack.pack(r)); return 1"
    )
    world.client.eval(shorten, 2, world.keys.bucket("b"), world.keys.reservation("open"))
    assert world.level("open", rpm=Level(RPM, 300)) == "settled"
    assert world.denied("after", AUTO, max_wait=0.0).reason == "pause"
    world.pass_time(6.5)
    call(world, "later")
    assert world.level("later", rpm=Level(RPM, 300)) == "settled"


def test_the_answer_that_shows_least_in_a_second_counts(world: World) -> None:
    """A request overtakes the calls of a stalled worker, so its answer does not count them."""
    call(world, "much")
    world.level("much", rpm=Level(RPM, 300))
    press(world, 12)
    for number in range(40):
        call(world, f"held up {number}")
    free = []
    for name, told, later in (("truth", 20, 0.6), ("early", 60, 0.6), ("still", 60, 1.1), ("late", 60, 0.0)):
        call(world, name)
        world.level(name, rpm=Level(RPM, told))
        free.append(world.available(AUTO))
        world.pass_time(later)
    truth, early, still, late = free
    assert truth <= 20
    assert early <= truth + 6
    assert still <= truth + 12
    assert late > 45


def test_what_is_surely_left_is_believed_at_once(world: World) -> None:
    """Because a minute's quota comes back all at once, whatever was shown a moment before."""
    call(world, "much")
    world.level("much", rpm=Level(RPM, 300))
    press(world, 12)
    for number in range(40):
        call(world, f"open {number}")
    call(world, "little")
    world.level("little", rpm=Level(RPM, 20))
    assert world.available(AUTO) <= 20
    world.pass_time(0.1)
    call(world, "again")
    world.level("again", rpm=Level(RPM, 100))
    # All but the open ones, those of `press` among them, itself, and a quarter of a second.
    assert world.available(AUTO) == pytest.approx(100 - 40 - 12 - 1 - 2.5, abs=0.1)
