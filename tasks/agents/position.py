"""Where in an agent's code a call stands: its position, by which the journal finds it again.

Calls of one line of execution are numbered as they are made: 0, 1, 2 … What runs beside it is a branch with numbers
of its own: the branches of `gather` at position 2 are 2.0 and 2.1, and their calls 2.0.0, 2.0.1, 2.1.0 … So a
position says nothing of which branch was faster, and a replay finds its entries in any order of completion. A task
that the agent, or an SDK, starts by itself is a branch, too, numbered by its first call.

Time and chance are a branch's own for the same reason: its clock is the time of its last entry, and its random
numbers follow from the job and the position.
"""

import asyncio
import random
from contextvars import ContextVar

_branch: ContextVar["Branch"] = ContextVar("overnight_branch")


class Branch:
    """One line of execution. `now` is in seconds since the epoch; `seed` makes the job's chance its own."""

    __slots__ = ("_count", "_random", "now", "prefix", "seed", "task")

    def __init__(self, prefix: str, seed: str, now: float, task: "asyncio.Task[object] | None" = None) -> None:
        self.prefix = prefix
        self.seed = seed
        self.now = now
        self.task = task
        self._count = 0
        self._random: random.Random | None = None

    def next(self) -> str:
        """The position of the next call."""
        self._count += 1
        return f"{self.prefix}{self._count - 1}"

    def fork(self, position: str) -> "Branch":
        """A branch that begins at a position of this one."""
        return Branch(f"{position}.", self.seed, self.now)

    @property
    def random(self) -> random.Random:
        """This branch's random numbers."""
        if self._random is None:
            self._random = random.Random(f"{self.seed}/{self.prefix}")
        return self._random

    def enter(self) -> None:
        """The running task is this branch from here on."""
        self.task = asyncio.current_task()
        _branch.set(self)


def current() -> Branch:
    """The branch of the running task; RuntimeError outside of an agent."""
    found = _branch.get(None)
    if found is None:
        raise RuntimeError("an agent's llm can be used only while the agent runs")
    if found.task is not asyncio.current_task():
        found = found.fork(found.next())
        found.enter()
    return found


def order(position: str) -> tuple[int, ...]:
    """What sorts positions as the code reads."""
    return tuple(int(part) for part in position.split("."))
