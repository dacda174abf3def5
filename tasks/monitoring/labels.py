"""Names as labels of metrics: the configured ones, a limited number of others, and one label for all the rest.

A producer can send jobs with any name, and Prometheus keeps a series for each distinct label. So the number of labels
that the configuration does not list is bounded.
"""

from collections.abc import Collection, Hashable
from typing import Final

#: The label of every name without a label of its own.
OTHER: Final = "(other)"

#: Names outside the configuration that get a label of their own.
MOST: Final = 100


class Labels:
    """The labels of one process. A name keeps its first label, so that a counter never changes its series.

    A name may be a tuple of labels that belong together.
    """

    def __init__(self, known: Collection[Hashable] = (), most: int = MOST) -> None:
        self._known = frozenset(known)
        self._most = most
        self._others: set[Hashable] = set()

    def has(self, name: Hashable) -> bool:
        """Whether `name` has a label of its own. It gets one if any are left."""
        if name in self._known or name in self._others:
            return True
        if len(self._others) >= self._most:
            return False
        self._others.add(name)
        return True

    def of(self, name: str) -> str:
        """The label of `name`: itself, or `OTHER`."""
        return name if self.has(name) else OTHER
