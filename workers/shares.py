"""In which order a worker takes from its queues: by weight, past those that are gated, urgent ones first in line.

Stride scheduling: each queue has a *pass*, which grows by messages / weight as messages are taken from it, and the
queue with the lowest pass is next. Over any stretch of time busy queues get their weights' share, whatever their
length, and a queue that was empty starts at the present: it cannot save its turns up.
"""

from collections.abc import Callable, Iterable
from heapq import nsmallest
from typing import ClassVar, Final

from kombu.utils.scheduling import round_robin_cycle

from workers.broker import Place
from workers.queues import PRIORITIES, SEPARATOR, Policy, claimed, policy

#: The most lists that one claim looks into beyond the messages that it asks for.
EXTRA: Final = 16

#: The most messages a turn that a weight can mean.
MOST_SHARE: Final = 100


class Shares(round_robin_cycle):  # type: ignore[misc]  # kombu has no types
    """kombu's cycle of queues, as a plan for a claim."""

    #: How a queue is to be treated now: one rule for all channels of a process.
    policy: ClassVar[Callable[[str], Policy]] = staticmethod(policy)

    def __init__(self, it: list[str] | None = None) -> None:
        super().__init__(it)
        self.mine: frozenset[str] = frozenset(self.items)
        self.passes: dict[str, float] = {}
        self.now = 0.0
        self._urgent: frozenset[str] | None = None

    def update(self, it: Iterable[str]) -> None:
        """These are the queues from now on."""
        super().update(it)
        self.mine = frozenset(self.items)
        self.passes = {queue: value for queue, value in self.passes.items() if queue in self.mine}
        self._urgent = None

    @property
    def urgent(self) -> frozenset[str]:
        """The queues that slots are kept for."""
        if self._urgent is None:
            self._urgent = frozenset(queue for queue in self.items if type(self).policy(queue).urgent)
        return self._urgent

    def plan(self, ready: Iterable[str], most: int) -> list[Place]:
        """Which of these lists the next claim takes from, best first."""
        policies: dict[str, Policy] = {}
        candidates: list[tuple[int, float, str, str]] = []
        for name in ready:
            queue, _, step = name.partition(SEPARATOR)
            if queue not in self.mine:
                continue
            policy = policies.get(queue)
            if policy is None:
                policy = policies[queue] = type(self).policy(queue)
            if policy.allowed != 0:
                candidates.append((priority_of(step), self._start(queue), name, queue))
        if not candidates:
            return []
        chosen = nsmallest(most + EXTRA, candidates)
        self.now = max(self.now, min(start for _, start, _, _ in chosen))
        least = min(policies[queue].weight for _, _, _, queue in chosen) or 1.0
        return [_place(name, priority, policies[queue], least) for priority, _, name, queue in chosen]

    def took(self, queue: str, count: int) -> None:
        """So many messages came from a queue."""
        claimed(queue, count)
        self.passes[queue] = self._start(queue) + count / (type(self).policy(queue).weight or 1.0)

    def _start(self, queue: str) -> float:
        return max(self.now, self.passes.get(queue, 0.0))


def _place(name: str, priority: int, policy: Policy, least: float) -> Place:
    share = min(MOST_SHARE, max(1, round(policy.weight / least)))
    return Place(name, priority, share, policy.allowed or 0, policy.cap, policy.urgent)


def priority_of(step: str) -> int:
    """The priority that a list's name ends with; the first where it says none."""
    return int(step) if step.isdigit() else PRIORITIES[0]
