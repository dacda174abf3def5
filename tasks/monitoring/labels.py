"""Names as labels of metrics: those of the configuration, a few others, and one label for all the rest.

Anybody who sends a job makes names up. Each distinct label is a series that Prometheus keeps for ever, so the number of
made-up ones is bounded.
"""

from collections.abc import Collection, Hashable
from typing import Final

#: The label of every name that has none of its own.
OTHER: Final = "(other)"

#: How many names that are not in the configuration get a label of their own.
MOST: Final = 100


class Labels:
    """The labels of one process. A name keeps the label that it got first: a counter never changes its series.

    A name may also be a tuple of labels that go together.
    """

    def __init__(self, known: Collection[Hashable] = (), most: int = MOST) -> None:
        self._known = frozenset(known)
        self._most = most
        self._others: set[Hashable] = set()

    def has(self, name: Hashable) -> bool:
        """Whether a name has a label of its own; it gets one if any are left."""
        if name in self._known or name in self._others:
            return True
        if len(self._others) >= self._most:
            return False
        self._others.add(name)
        return True

    def of(self, name: str) -> str:
        """The label of a name."""
        return name if self.has(name) else OTHER
