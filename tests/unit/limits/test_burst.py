"""How `burst = "auto"` learns: from headers and from demand; from 429s, see test_refusals.py."""

import pytest

from limits.bucket import Quota
from limits.reservation import Admitted, Denied, Impossible, Level, Throttle
from tests.support.provider_feedback import observe, throttled
from tests.unit.limits.world import World

RPM = 600  # ten a second
AUTO = Quota(rpm=RPM, headroom=1.0)
FIXED = Quota(rpm=RPM, headroom=1.0, burst=5.0)


def call(world: World, name: str, quota: Quota = AUTO) -> None:
    assert world.admitted(name, quota, send_at_once=True, max_wait=0.0).sent


def press(world: World, seconds: int, quota: Quota = AUTO) -> None:
    """Let a call go out and another be denied every second."""
    for _ in range(seconds):
        world.pass_time(1)
        world.ask(f"p{world.now}", quota, max_wait=0.0, send_at_once=True)
        world.denied(f"q{world.now}", quota, costs={"rpm": RPM}, max_wait=0.0)


def drain(world: World, quota: Quota) -> int:
    """Calls that may go out now, one after the other."""
    for number in range(10_000):
        answer = world.ask(f"d{world.now}-{number}", quota, max_wait=0.0, send_at_once=True)
        if isinstance(answer, Denied):
            return number
    raise AssertionError("nothing is denied")


def test_begins_with_one_second(world: World) -> None:
    assert drain(world, AUTO) == 10


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
    """That may be the share of this second, which calls that are booked are going to use."""
    press(world, 6)
    drain(world, AUTO)
    burst = world.burst(AUTO)
    world.pass_time(0.1)
    call(world, "last")
    world.level("last", rpm=Level(RPM, 17))
    assert world.burst(AUTO) == pytest.approx(burst, abs=0.1)
    assert world.available(AUTO) == pytest.approx(7.0, abs=1e-3)


def test_a_higher_level_never_counts_calls_that_are_still_to_leave(world: World) -> None:
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


def test_grows_while_there_is_demand(world: World) -> None:
    press(world, 5)
    slow = world.burst(AUTO)
    assert 2.0 < slow < 4.0
    press(world, 60)
    assert world.burst(AUTO) == 60.0


def test_grows_faster_where_headers_tell_the_level(world: World) -> None:
    call(world, "told")
    world.level("told", rpm=Level(RPM, 599))
    press(world, 8)
    assert world.burst(AUTO) > 15.0


def test_grows_no_further_than_headers_ever_told_to_be_left(world: World) -> None:
    """A provider that counts by the second never has more left than a second's share."""
    call(world, "told")
    world.level("told", rpm=Level(RPM, 30))
    press(world, 30)
    assert world.burst(AUTO) == 3.0


def test_grows_by_itself_where_headers_tell_the_limit_alone(world: World) -> None:
    call(world, "told")
    world.level("told", rpm=Level(RPM, None))
    press(world, 5)
    assert 2.0 < world.burst(AUTO) < 4.0


def test_does_not_grow_without_demand(world: World) -> None:
    for number in range(50):
        world.pass_time(1)
        call(world, f"r{number}")
    assert world.burst(AUTO) == 1.0


def test_a_fixed_burst_stays(world: World) -> None:
    press(world, 20, FIXED)
    assert world.burst(FIXED) == 5.0
    world.run(throttled, Throttle("b", 0.5))
    assert world.burst(FIXED) == 5.0


def test_what_is_learned_is_shared_and_survives(world: World) -> None:
    press(world, 60)
    successor = World(world.client, seed=1)
    successor.now = world.now + 3_600_000_000
    assert successor.burst(AUTO) == 60.0
    assert drain(successor, AUTO) == 600


def test_impossible_is_judged_by_the_configured_limit_only(world: World) -> None:
    call(world, "told")
    world.level("told", rpm=Level(5, None))
    world.pass_time(100)
    answer = world.ask("large", AUTO, costs={"rpm": 6}, max_wait=0.0)
    assert isinstance(answer, Admitted)
    assert world.ask("larger", AUTO, costs={"rpm": RPM + 1}) == Impossible("b", "rpm", RPM + 1, RPM)


def test_a_request_larger_than_the_burst_goes_out_of_a_full_bucket(world: World) -> None:
    quota = Quota(tpm=6_000, headroom=1.0, burst=1.0)
    assert world.admitted("large", quota, costs={"tpm": 3_000}).wait == 0
    denied = world.denied("next", quota, costs={"tpm": 3_000}, max_wait=0.0)
    assert denied.reason == "tpm"
    assert denied.retry_in == pytest.approx(30.0, abs=1e-3)


def test_what_headroom_keeps_unused_is_no_debt_after_a_pause(world: World) -> None:
    """A minute's quota that is all used up: the first call leaves when the provider said."""
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
    # Its own ninth of a second. The refused call left after the last header, but the provider has told the wait since.
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


def test_nobody_is_booked_far_ahead_while_headers_show_room_for_a_burst_to_grow(world: World) -> None:
    """Who is booked does not go sooner when the burst has grown; who asks again does."""
    call(world, "told")
    world.level("told", rpm=Level(RPM, 300))
    waits = []
    while isinstance(answer := world.ask(f"b{len(waits)}", AUTO, max_wait=5.0), Admitted):
        waits.append(answer.wait)
    assert 0.1 < max(waits) <= 0.25
    assert isinstance(answer, Denied)
    assert answer.opens_in == pytest.approx(0.125, abs=0.11), "an eighth of a second before it could be booked"
    waits = [world.denied("far", AUTO, costs={"rpm": 40}, max_wait=5.0, for_waitlist=line) for line in (False, True)]
    assert waits[0].opens_in == pytest.approx(1.1, abs=0.1)
    assert waits[1].opens_in == 0.25, "who stands in line asks again soon: others' answers may have shown more"


def test_a_burst_that_grows_makes_no_room_that_headers_do_not_show(world: World) -> None:
    call(world, "much")
    world.level("much", rpm=Level(RPM, 300))
    press(world, 3)
    call(world, "little")
    world.level("little", rpm=Level(RPM, 30))
    went, before = 0, world.burst(AUTO)
    for _ in range(30):
        world.pass_time(0.1)
        went += drain(world, AUTO)
    assert world.burst(AUTO) > before + 2.0
    assert 50 <= went <= 60, "what was left, and three seconds of the rate"


def test_a_burst_that_grows_after_a_rest_makes_no_room_for_the_rest(world: World) -> None:
    """It was full for a while: the larger one holds as much as was there, until time fills it."""
    call(world, "told")
    world.level("told", rpm=Level(RPM, 300))
    world.pass_time(3)  # it is not sure any more
    call(world, "one")
    world.denied("much", AUTO, costs={"rpm": RPM}, max_wait=0.0)
    world.pass_time(0.9)
    before, held = world.burst(AUTO), world.available(AUTO)
    assert held == pytest.approx(before * RPM / 60)
    call(world, "two")
    assert world.burst(AUTO) > before + 1.0
    assert world.available(AUTO) <= held - 1 + 1e-3


def test_a_burst_grows_where_a_level_was_told_outside_of_a_settlement(world: World) -> None:
    call(world, "first")
    world.run(observe, "b", {"rpm": Level(RPM, 300)}, world.now)
    before = world.burst(AUTO)
    press(world, 3)
    assert world.burst(AUTO) > before + 1.0


def test_of_the_answers_of_a_second_that_counts_which_shows_least(world: World) -> None:
    """A request overtakes calls of a worker that was held up: its answer does not count them."""
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


def test_what_is_left_even_if_all_open_calls_were_late_is_believed_at_once(world: World) -> None:
    """As a minute's quota comes back all at once, and whatever was shown a moment before."""
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
