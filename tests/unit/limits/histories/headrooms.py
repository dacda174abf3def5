"""Histories of one bucket whose headroom is learned: which part of its limit is in force."""

from typing import TYPE_CHECKING

from limits.admission import admit, settle
from limits.bucket import Quota
from limits.reservation import Admitted, Level, Settlement, Throttle
from limits.snapshot import snapshot
from tests.unit.limits.histories.windows import Provider
from tests.unit.limits.world import SECOND, World

if TYPE_CHECKING:
    from collections.abc import Mapping

    import redis

    from limits.client.scripts import Script

RPM = 60
QUOTA = Quota(rpm=RPM)

#: So many calls within a minute are more than the limit, even if one in twenty got lost.
MORE = 1.05 * RPM

#: When a call left is known to a sixtieth of the limit, and by the call.
UNSURE = 2


def headrooms(client: "redis.Redis", seed: int, scripts: "Mapping[str, Script] | None" = None) -> None:
    """All of a limit is used only if headers report one second, or a minute of which more has been answered than
    the limit, and not within ten seconds of a 429's pause; else 97 %.
    """
    world = World(client, seed, scripts, "headrooms")
    pick = world.random
    kind = pick.choice(["silent", "second", "sliding", "linear", "linear"])
    provider = Provider("sliding" if kind == "sliding" else "linear")
    refused = pick.choice([0.0, 0.02])  # how often a provider refuses for no reason
    flying: list[tuple[str, int, int]] = []  # name, when it was sent, its number
    left: list[int] = []
    unmarked: int | None = None  # calls sent before more than three seconds were reported
    most = -1.0
    seen = throttled = paused = minutes = 0
    sure = likely = 0  # the most calls answered within a minute, surely and perhaps

    def answered(name: str, at: int, number: int) -> None:
        nonlocal most, seen, throttled, paused, minutes, sure, likely, unmarked
        wait = pick.choice([0.2, 1.0, 20.0]) if pick.random() < refused else None
        if wait is None:
            wait = provider.take(at)
        remaining = min(1, provider.left(at)) if kind == "second" else provider.left(at)
        levels = {} if kind == "silent" or pick.random() < 0.1 else {"b": {"rpm": Level(RPM, remaining)}}
        throttles = () if wait is None else (Throttle("b", wait),)
        settlement = Settlement(levels=levels, throttles=throttles, outcome="neutral" if throttles else "ok")
        assert world.run(settle, name, "o", settlement).verdict == "settled"
        news = bool(levels) and at >= seen
        if news:
            most, seen = max(most, remaining), at
        if wait is not None:
            throttled = world.now if at > throttled else throttled
            paused = max(paused, world.now + round(wait * SECOND))
            if wait > 5:
                minutes, sure, likely = world.now, 0, 0
        elif news and most > 3 and world.now - minutes >= 300 * SECOND:
            within = [i for i, when in enumerate(left[:number]) if when > at - 60 * SECOND]
            likely = max(likely, len(within))
            if unmarked is not None and number > unmarked:
                sure = max(sure, sum(1 for i in within if i > unmarked))

    def check(rate: float) -> None:
        part = round(rate * 60 / RPM, 4)
        if most < 0 or world.now - seen >= 300 * SECOND or world.now - max(throttled, paused) < 10 * SECOND:
            assert part == 0.97, "all of the limit is used where nothing tells what is left, or right after a 429"
        elif most <= 3:
            assert part == 1, "of a limit each second a part is left"
        elif likely + UNSURE <= MORE:
            assert part == 0.97, "all of a minute is used that may come back at once"
        elif sure > MORE:
            assert part == 1, "a minute that refills is not used to the full"

    for step in range(150):
        if pick.random() < 0.005:
            while flying:  # before their leases end
                answered(*flying.pop(0))
            world.pass_time(400)
        world.pass_time(pick.expovariate(4.0))
        ask = world.asking(f"r{step}", QUOTA, max_wait=0.0, send_at_once=True)
        state, answer = world.run_many(world.call(snapshot, [("b", QUOTA)]), world.call(admit, ask))
        check(state.buckets[0].dimensions[0].rate)
        if isinstance(answer, Admitted):
            left.append(world.now)
            flying.append((f"r{step}", world.now, len(left)))
            if most > 3 and unmarked is None:
                unmarked = len(left)
        while flying and pick.random() < 0.7:
            answered(*flying.pop(0))
