"""Seeded random histories, each checked against what must hold whatever happens.

arithmetic   each answer equals the formula of the rate limiter, and time never runs backwards
dimensions   units that left in any [a, b] stay within capacity + rate x (b - a); nothing leaves during a pause
conserving   no capacity is left unused, and a denied call comes back a few times at most
levels       what a provider's headers tell is never exceeded (of who counts by the second, by no more than a quarter of
             one), and old or empty ones change nothing
headrooms    which part of a limit is in force equals an account kept beside, of what was told, answered and refused
windows      what a provider holds for a minute is used again when it has come back, and few calls are refused
seconds      who counts by the second is used to the full in each, and next to no call is refused
budgets      spent and held equal an account kept beside; spent + held <= limit; nothing is held in the end
circuits     state equals an account kept beside: window, generations, one probe at a time, retries as earned
admissions   all of it at once: all or nothing, a denial writes nothing but the hint, repeating changes nothing
joined       calls that go as one have the answers and the effects that they have one by one

Each raises AssertionError where an invariant fails; `scripts` puts mutated scripts to the test.
"""

from typing import Final

from tests.unit.limits.histories.admissions import admissions
from tests.unit.limits.histories.budgets import budgets
from tests.unit.limits.histories.circuits import circuits
from tests.unit.limits.histories.dimensions import arithmetic, conserving, dimensions
from tests.unit.limits.histories.headrooms import headrooms
from tests.unit.limits.histories.joined import joined
from tests.unit.limits.histories.levels import levels
from tests.unit.limits.histories.seconds import seconds
from tests.unit.limits.histories.windows import windows

HISTORIES: Final = (
    arithmetic,
    dimensions,
    conserving,
    levels,
    headrooms,
    windows,
    seconds,
    budgets,
    circuits,
    admissions,
    joined,
)
