"""Histories of one bucket whose burst is learned, with headers of a provider that others use too."""

from typing import TYPE_CHECKING

from limits.admission import admit, sent, settle
from limits.bucket import Quota
from limits.reservation import Admitted, Level, Settlement, Throttle
from limits.snapshot import snapshot
from tests.support.provider_feedback import observe
from tests.unit.limits.world import SECOND, World

if TYPE_CHECKING:
    from collections.abc import Mapping

    import redis

    from limits.client.scripts import Script


def levels(client: "redis.Redis", seed: int, scripts: "Mapping[str, Script] | None" = None) -> None:
    """Reported levels bind if they are lower and new, are never exceeded, and are ignored if old or empty."""
    world = World(client, seed, scripts, "levels")
    pick = world.random
    auto = pick.random() < 0.7
    quota = Quota(rpm=pick.choice([60, 600]), burst="auto" if auto else 5.0, headroom=pick.choice([1.0, 0.9]))
    limit, newest = quota.limits["rpm"], 0
    answers = pick.choice([0.2, 0.5])  # how often a call ends: many are open, or few
    speed = limit * quota.headroom / 60
    look = [("b", quota)]
    flying: list[tuple[str, int, int, int]] = []  # name, when sent, calls sent with it, calls ended
    booked: list[tuple[int, str]] = []
    shown: list[tuple[int, int, int, int]] = []  # when learned, what was left, as of when, calls until then
    surely = (0, 0, 0)  # newest answer: when learned, what was left, calls ended when it was sent
    admitted = departed = ended = most = 0

    def sure() -> float:
        """What the newest answer leaves if all calls that were open arrive after it."""
        learnt, left, done = surely
        return left - (admitted - done) if world.now - learnt < 2 * SECOND else 0

    def least(since: int) -> float:
        """What is left by the answer since then that showed least; the newest always counts."""
        told = [each for each in shown[:-1] if each[0] >= since] + shown[-1:]
        return min(left + speed * (world.now - at) / SECOND - (admitted - before) for _, left, at, before in told)

    def end(name: str, left: int, before: int, done: int) -> None:
        nonlocal newest, most, ended, surely
        ended += 1
        remaining = pick.choice([None, 0, pick.randint(0, 20), pick.randint(0, limit), limit])
        told = Level(limit if pick.random() < 0.7 else None, remaining)
        refused = pick.random() < 0.05
        if remaining is not None and left >= newest:
            most = max(most, remaining)
        settlement = Settlement(
            levels={"b": {"rpm": told}},
            throttles=(Throttle("b", 0.5),) if refused else (),
            outcome="neutral" if refused else "ok",
        )
        state = world.call(snapshot, look)
        old, _, new = world.run_many(state, world.call(settle, name, "o", settlement), state)
        (had,), (has,) = old.buckets[0].dimensions, new.buckets[0].dimensions
        assert has.available <= speed * has.burst + 1e-3, "more than the burst is free"
        assert not auto or 1 - 1e-6 <= has.burst <= 60
        fresh = left >= newest
        if remaining is not None or told.limit is not None:
            newest = max(newest, left)
        if refused:
            assert has.available <= 1e-3, "a burst right after a refusal"
            if auto:
                assert has.burst <= max(1.0, had.burst) + 1e-6
            return
        if not fresh or remaining is None:
            assert has == had, "an old or an empty header changed something"
        elif not auto:
            assert has.available <= had.available + 1e-3, "a header raised a fixed burst"
        if remaining is not None and fresh:
            # What the provider has left now: what it reported, less what was sent since and what is booked.
            free = remaining * quota.headroom - (admitted - before) + speed * (world.now - left) / SECOND
            # A provider that never reported more than three seconds' worth is doubted by a quarter of one.
            doubt = speed / 4 if most * 60 / limit <= 3 else 0.0
            assert has.available <= max(0.0, free + doubt) + 1e-3, (has, free)
            shown.append((world.now, remaining, left, before))
            surely = (world.now, remaining, done)
            if has.available > had.available + 1e-6:
                shows = max(0.0, sure(), least(world.now - SECOND))
                assert has.available <= shows + 1e-3, "an answer showed that less is left"

    for i in range(40):
        world.pass_time(pick.expovariate(5.0))
        name = f"r{i}"
        ask = world.asking(name, quota, send_at_once=True, max_wait=pick.choice([0.0, 1.0]))
        state = world.call(snapshot, look)
        old, answer, new = world.run_many(state, world.call(admit, ask), state)
        if isinstance(answer, Admitted):
            admitted += 1
            booked.append((answer.at, name))
            if answer.sent:
                booked.pop()
                departed += 1
                flying.append((name, world.now, departed, ended))
        if old.buckets and shown:
            (had,), (has,) = old.buckets[0].dimensions, new.buckets[0].dimensions
            if has.burst > had.burst + 1e-9:
                assert has.available <= max(had.available, sure(), 0.0) + 1e-3, "growth made room"
        for place in [each for each in booked if each[0] <= world.now and pick.random() < 0.7]:
            (departure,) = world.run_many(world.call(sent, place[1], "o"))
            if departure.verdict == "sent":
                booked.remove(place)
                departed += 1
                flying.append((place[1], world.now, departed, ended))
        if flying and pick.random() < answers:
            end(*flying.pop(pick.randrange(len(flying))))
        if newest and pick.random() < 0.05:
            state = world.call(snapshot, look)
            stale = world.call(observe, "b", {"rpm": Level(limit, pick.randint(0, limit))}, newest - 1)
            old, _, new = world.run_many(state, stale, state)
            assert new == old, "an old header changed something"
