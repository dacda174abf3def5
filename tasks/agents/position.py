"""The position of a call in its agent's code, by which the journal finds it in a replay.

The calls of an agent are numbered in the order in which they are made: 0, 1, 2 … Code that runs concurrently is a
branch with numbers of its own: the branches of `gather` at position 2 are 2.0 and 2.1, and their calls are 2.0.0,
2.0.1, 2.1.0 … So a position doesn't depend on which branch was faster. A task that the agent or an SDK starts without
`gather` is a branch too, numbered by its first call.

For the same reason each branch has its own time and random numbers: the time is that of its last entry, and the
numbers follow from the job and the branch's position.
"""

import asyncio
import random
from contextvars import ContextVar

_branch: ContextVar["Branch"] = ContextVar("overnight_branch")


class Branch:
    """Code of an agent that runs in order. `now` is in seconds since the epoch; `seed` names the job."""

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
        """This branch's random numbers: the same in every run of the job."""
        if self._random is None:
            self._random = random.Random(f"{self.seed}/{self.prefix}")
        return self._random

    def enter(self) -> None:
        """Make the running task this branch."""
        self.task = asyncio.current_task()
        _branch.set(self)


def current() -> Branch:
    """The branch of the running task; RuntimeError outside an agent."""
    found = _branch.get(None)
    if found is None:
        raise RuntimeError("an agent's llm can be used only while the agent runs")
    if found.task is not asyncio.current_task():
        found = found.fork(found.next())
        found.enter()
    return found


def order(position: str) -> tuple[int, ...]:
    """A sort key: positions in the order of the agent's code."""
    return tuple(int(part) for part in position.split("."))
