"""The order in which a worker claims from its queues: by weight, without those whose gate is closed.

Stride scheduling: each queue has a *pass* that grows by messages / weight as messages are claimed, and the queue with
the lowest pass is next. So busy queues get their weights' shares over any period, however long they are, and a
queue that was empty starts at the present: it cannot save up turns.

All unconfigured workflows have one pass together: a thousand made-up names get the share of one workflow. Among them,
the queue that has waited longest is next.
"""

from collections.abc import Callable, Iterable
from heapq import nsmallest
from itertools import islice
from typing import ClassVar, Final, NamedTuple

from kombu.utils.scheduling import round_robin_cycle

from workers.transport.broker import Source
from workers.transport.policy import Policy, claimed, policy
from workers.transport.queues import PRIORITIES, SEPARATOR

#: Lists that one claim looks into, at most, beyond the number of messages it asks for.
EXTRA: Final = 16

#: Messages that a queue gets per turn at most, whatever its weight.
MAX_SHARE: Final = 100

#: Queues of unconfigured workflows that one claim looks into at most.
MAX_SHARED: Final = 32

#: The key of the pass that all unconfigured workflows share: no queue has this name.
_SHARED: Final = ""


class FairShare(round_robin_cycle):  # type: ignore[misc]  # kombu has no types
    """kombu's cycle of queues, which plans claims."""

    #: Returns how to treat a queue now. All channels of a process share it.
    policy: ClassVar[Callable[[str], Policy]] = staticmethod(policy)

    def __init__(self, it: list[str] | None = None) -> None:
        super().__init__(it)
        self.mine: frozenset[str] = frozenset(self.items)
        self.passes: dict[str, float] = {}
        self.served: dict[str, int] = {}  # unconfigured queues: the number of the last claim from each
        self._claims = 0
        self.now = 0.0
        self._urgent: frozenset[str] | None = None
        self._shared: frozenset[str] | None = None

    def update(self, it: Iterable[str]) -> None:
        """Use these queues from now on."""
        super().update(it)
        self.mine = frozenset(self.items)
        kept = self.mine | {_SHARED}
        self.passes = {queue: value for queue, value in self.passes.items() if queue in kept}
        self.served = {queue: number for queue, number in self.served.items() if queue in self.mine}
        self._urgent = self._shared = None

    @property
    def shared(self) -> frozenset[str]:
        """The queues of unconfigured workflows."""
        if self._shared is None:
            self._shared = frozenset(queue for queue in self.items if type(self).policy(queue).shared)
        return self._shared

    @property
    def urgent(self) -> frozenset[str]:
        """The queues for which slots are kept."""
        if self._urgent is None:
            self._urgent = frozenset(queue for queue in self.items if type(self).policy(queue).urgent)
        return self._urgent

    def plan(self, ready: Iterable[str], most: int) -> list[Source]:
        """The sources of the next claim among the `ready` lists, in order."""
        policies: dict[str, Policy] = {}
        own: list[_Candidate] = []
        shared: list[tuple[int, int, str, str]] = []
        names, served = self.shared, self.served
        for name in ready:
            queue, _, step = name.partition(SEPARATOR)
            if queue in names:
                shared.append((priority_of(step) if step else 0, served.get(queue, 0), name, queue))
            elif queue in self.mine:
                own.append(_Candidate(priority_of(step), self._start(queue), 0, name, queue))
        candidates = [each for each in own if self._allowed(each.queue, policies)]
        # Ask the gates of no more queues than a claim looks into.
        shared.sort()
        open_ones = (each for each in shared if self._allowed(each[3], policies))
        start = self._start(_SHARED)
        candidates += [_Candidate(each[0], start, *each[1:]) for each in islice(open_ones, MAX_SHARED)]
        if not candidates:
            return []
        chosen = nsmallest(most + EXTRA, candidates)
        self.now = max(self.now, min(each.start for each in chosen))
        return _sources(chosen, policies)

    def _allowed(self, queue: str, policies: dict[str, Policy]) -> bool:
        """Whether messages of a queue may be claimed. Adds its policy to `policies`."""
        found = policies.get(queue)
        if found is None:
            found = policies[queue] = type(self).policy(queue)
        return found.allowed != 0

    def took(self, queue: str, count: int) -> None:
        """Note that `count` messages were claimed from a queue."""
        claimed(queue, count)
        policy = type(self).policy(queue)
        if policy.shared:
            self._claims += 1
            self.served[queue] = self._claims
            queue = _SHARED
        self.passes[queue] = self._start(queue) + count / (policy.weight or 1.0)

    def _start(self, queue: str) -> float:
        return max(self.now, self.passes.get(queue, 0.0))


class _Candidate(NamedTuple):
    """A list that a claim may take from. Candidates sort by their fields: the smallest is next."""

    priority: int
    start: float
    served: int
    name: str
    queue: str


def _sources(chosen: list[_Candidate], policies: dict[str, Policy]) -> list[Source]:
    """The sources of a claim. If `parts` unconfigured queues share a turn, each other queue gets `parts` turns."""
    least = min(policies[each.queue].weight for each in chosen) or 1.0
    parts = max(1, sum(policies[each.queue].shared for each in chosen))
    found = []
    for each in chosen:
        policy = policies[each.queue]
        share = min(MAX_SHARE, max(1, round(policy.weight / least))) * (1 if policy.shared else parts)
        found.append(Source(each.name, each.priority, share, policy.allowed or 0, policy.cap, policy.urgent))
    return found


def priority_of(step: str) -> int:
    """The priority at the end of a list's name; the first one if the name has none."""
    return int(step) if step.isdigit() else PRIORITIES[0]
