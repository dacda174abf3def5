"""Seeded random histories, each checked against what must hold whatever happens.

arithmetic   each answer equals the rate limiter's formula, and time never runs backwards
dimensions   units sent in any [a, b] stay within capacity + rate x (b - a); nothing is sent during a pause
conserving   no capacity stays unused, and a denied call asks again a few times at most
levels       what headers report is never exceeded (by at most a quarter of a second if the provider counts by the
             second), and old or empty headers change nothing
headrooms    the part of a limit in force equals a separate account of reports, answers and refusals
windows      what a provider holds for a minute is used again when it has come back, and few calls are refused
seconds      at a provider that counts by the second, nearly every second is used up, and few calls are refused
budgets      spent and held equal a separate account; spent + held <= limit; nothing is held at the end
chunks       the same for reservations of many calls, each settled once
circuits     state equals a separate account: window, generations, one probe at a time, retries as earned
admissions   everything together: all or nothing, a denial only writes the hint, repeating changes nothing
joined       calls that are sent as one have the same answers and effects as one by one

Each raises AssertionError if an invariant fails. `scripts` replaces scripts by mutated ones.
"""

from typing import Final

from tests.unit.limits.histories.admissions import admissions
from tests.unit.limits.histories.budgets import budgets
from tests.unit.limits.histories.chunks import chunks
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
    chunks,
    circuits,
    admissions,
    joined,
)
