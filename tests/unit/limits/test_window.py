"""A provider that counts the last minute gives back as was used. That is used again before headers report it."""

import math
from collections import deque

from limits.admission import settle
from limits.bucket import Quota
from limits.reservation import Admitted, Denied, Level, Settlement, Throttle
from tests.unit.limits.world import SECOND, START, World

RPM = 600
AUTO = Quota(rpm=RPM, headroom=1.0)
MINUTE = 60 * SECOND

#: A call may reach the provider so much later than it leaves, in seconds.
TRANSIT = 0.25


class Sliding:
    """A provider that counts the last minute, whose answers come `latency` seconds later."""

    def __init__(self, world: World, latency: float = 0.3) -> None:
        self.world = world
        self.latency = round(latency * SECOND)
        self.log: list[int] = []
        self.others = self.asked = 0
        self.flying: deque[tuple[int, str, Settlement]] = deque()

    @property
    def left(self) -> int:
        """What is left now."""
        return RPM - self.others - len(self.used)

    @property
    def used(self) -> list[int]:
        """When those of our calls came that count now."""
        return [at for at in self.log if at > self.world.now - MINUTE]

    def call(self) -> bool:
        """Send a call if it is admitted; return whether it was."""
        self.asked += 1
        name = f"r{self.asked}"
        answer = self.world.ask(name, AUTO, max_wait=0.0, send_at_once=True)
        if isinstance(answer, Denied):
            return False
        refused = self.left < 1
        if not refused:
            self.log.append(self.world.now)
        told = {"b": {"rpm": Level(RPM, self.left)}}
        wait = (self.used[0] + MINUTE - self.world.now) / SECOND
        throttles = (Throttle("b", wait),) if refused else ()
        settlement = Settlement(levels=told, throttles=throttles, outcome="neutral" if refused else "ok")
        self.flying.append((self.world.now + self.latency, name, settlement))
        return True

    def pass_time(self, seconds: float) -> None:
        """Move the clock, and let what is answered by then be settled."""
        ends = self.world.now + round(seconds * SECOND)
        while self.flying and self.flying[0][0] <= ends:
            at, name, settlement = self.flying.popleft()
            self.world.now = at
            assert self.world.run(settle, name, "o", settlement).verdict == "settled"
        self.world.now = ends

    def use_up(self) -> None:
        """Use the whole minute, as fast as the burst grows, until a 429."""
        while self.left:
            if not self.call():
                self.pass_time(0.05)
        self.pass_time(0.5)
        assert self.call(), "the rate lets a call leave that is refused"
        self.pass_time(0.5)

    def drain(self) -> int:
        """How many calls may be sent now."""
        return next(number for number in range(2 * RPM) if not self.call())


def back_by(provider: Sliding, seconds: float) -> int:
    """How many calls had been given back `seconds` ago."""
    return sum(1 for at in provider.log if at <= provider.world.now - MINUTE - seconds * SECOND)


def second_minute(world: World) -> Sliding:
    """A provider whose first minute is used up, a while after some of it has come back; one call was answered since."""
    provider = Sliding(world)
    provider.use_up()
    provider.pass_time((START + MINUTE - world.now) / SECOND)
    while not provider.call():
        provider.pass_time(0.05)
    provider.pass_time(0.7)
    return provider


def test_returned_units_are_used_before_headers_report_them(world: World) -> None:
    provider = second_minute(world)
    back = back_by(provider, TRANSIT)
    assert 60 < back < RPM, "far more than the one answer told of"
    # A call is marked with up to a sixtieth of the limit.
    assert back - 1 - RPM // 60 <= provider.drain() <= back


def test_a_denial_says_when_more_comes_back(world: World) -> None:
    provider = second_minute(world)
    provider.drain()
    answer = world.ask("late", AUTO, max_wait=0.0, costs={"rpm": 60})
    assert isinstance(answer, Denied)
    assert answer.retry_in is not None
    assert answer.retry_in < 0.5, "by the rate it would take six seconds"


def test_no_call_is_booked_far_ahead_while_a_burst_comes_back(world: World) -> None:
    provider = second_minute(world)
    provider.drain()
    answers = [world.ask(f"late{number}", AUTO, max_wait=5.0) for number in range(20)]
    assert all(answer.wait <= 0.25 for answer in answers if isinstance(answer, Admitted))
    assert isinstance(answers[-1], Denied)
    provider.pass_time(3)  # all of it has come back
    provider.drain()
    assert isinstance(world.ask("later", AUTO, max_wait=5.0, costs={"rpm": 20}), Admitted)


def test_waiters_ask_within_seconds_while_a_burst_comes_back(world: World) -> None:
    provider = second_minute(world)
    provider.drain()
    answers = [world.ask(f"late{number}", AUTO, max_wait=0.0) for number in range(200)]
    hints = [answer.retry_in or 0.0 for answer in answers if isinstance(answer, Denied)]
    assert len(hints) == 200, "by the rate they would come over twenty seconds"
    assert max(hints) < 2.5


def test_no_call_is_booked_far_ahead_of_a_pause_that_ends_with_a_burst(world: World) -> None:
    provider = second_minute(world)
    provider.use_up()
    paused = (world.bucket(AUTO).paused_until - world.now) / SECOND
    provider.pass_time(paused - 1)
    answer = world.ask("early", AUTO, max_wait=5.0)
    assert isinstance(answer, Denied), "it would leave at the rate's time, behind which all that comes back would wait"
    assert answer.retry_in is not None
    assert 0.75 < answer.retry_in < 1.0


def test_what_others_use_is_not_ours(world: World) -> None:
    provider = second_minute(world)
    provider.others = 400
    assert provider.call()
    provider.pass_time(0.3)  # an answer shows less than the one before
    left = provider.left
    assert 60 < left < back_by(provider, TRANSIT) - 60, "all that has come back would be too much"
    assert left - 60 <= provider.drain() <= left


def test_nothing_is_expected_without_answers(world: World) -> None:
    provider = Sliding(world)
    provider.use_up()
    provider.pass_time((START + MINUTE - world.now) / SECOND + 3)
    assert back_by(provider, TRANSIT) > 100
    assert provider.drain() <= 3 * RPM / 60 + 1, "what the rate has given since the pause"


def test_nothing_comes_back_to_a_pause(world: World) -> None:
    provider = second_minute(world)
    provider.use_up()
    paused = (world.bucket(AUTO).paused_until - world.now) / SECOND
    assert paused > 50
    assert not provider.call()
    provider.pass_time(paused)
    assert provider.drain() <= 1, "a pause ends with the rate"


class Linear(Sliding):
    """A provider whose bucket holds a minute and refills continuously."""

    @property
    def left(self) -> int:
        """What is left now."""
        used, since = 0.0, START
        for at in (*self.log, self.world.now):
            used = max(0.0, used - (at - since) * RPM / MINUTE) + 1
            since = at
        return RPM - math.ceil(used - 1)


def test_no_waiter_asks_at_once_if_only_the_rate_comes_back(world: World) -> None:
    provider = Linear(world)
    for _ in range(1_600):  # its first burst was sent more than a minute ago, and is used up
        provider.call()
        provider.pass_time(0.05)
    while isinstance(world.ask(f"ahead{provider.asked}", AUTO, max_wait=5.0), Admitted):
        provider.asked += 1
    first = world.denied("first", AUTO, max_wait=5.0, for_waitlist=True)
    assert first.reason == "rpm"
    assert first.retry_in is not None
    assert 0.0 < first.retry_in <= 0.8
