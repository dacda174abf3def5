"""What a batch or a workflow waits for right now, in words.

Known blockers come first: trouble with files, no worker, a worker with another configuration, a server that refuses
writes or whose clock was set back, budgets, circuits, accounts, quotas. If none applies and no job has ended for a
while, the state of the queue names the blocker.
"""

from collections.abc import Collection
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final

from limits.snapshot import BucketState, BudgetState
from tasks.batches.batch import Batch
from tasks.batches.lane_report import waits_for
from tasks.jobs import pauses
from tasks.jobs.reasons import DIMENSIONS, budget, subject
from tasks.monitoring.limits import blocked as blocked_by
from tasks.monitoring.snapshot import SystemSnapshot, Target, targets
from workers.figures import dollars
from workers.transport.queues import Depth

#: A workflow waits for a dimension if less than this fraction of it is free.
SCARCE: Final = 0.1

#: A budget that no call holds money of is spent from this fraction on: the rest pays for no call.
NEARLY: Final = 0.98

#: Seconds of pause that are ordinary pacing; with a longer pause, the batch is stalled.
SHORT: Final = 60.0

#: Seconds for which a worker's report of a batch counts.
TOLD: Final = 30.0

#: Seconds without an ended job after which a batch is stalled.
STILL: Final = 15.0

#: Seconds by which the limits' clock must be ahead of the server's to be the blocker of a stalled batch.
LEAD: Final = 5.0


@dataclass(frozen=True, slots=True)
class Blocker:
    """What something waits for, in `words`; '' for nothing. `kind` is the same in one word, for a metric.

    `stalled`: no job runs at all. Waiting for a quota is not stalling.
    """

    words: str = ""
    stalled: bool = False
    kind: str = field(default="", compare=False)


def spent(state: BudgetState) -> bool:
    """Whether a budget can pay for no further call: little is left, and no call in flight may give some back."""
    return state.spent >= state.limit or (not state.held and state.spent > NEARLY * state.limit)


def of_budget(state: BudgetState) -> Blocker:
    """The blocker of a spent budget, with the end of its window."""
    turns = datetime.fromtimestamp(state.resets / 1_000_000, UTC)
    until = f" until {turns:%Y-%m-%d %H:%M} UTC" if state.resets else ""
    words = f"{budget(state.subject)} is spent{until}: {dollars(state.spent)} of {dollars(state.limit)}"
    return Blocker(words, stalled=True, kind="budget")


def of_target(target: Target, system: SystemSnapshot) -> Blocker:
    """What the calls to a model wait for."""
    limits = system.limits
    if target.circuit is not None and target.circuit.state == "open":
        words = ": its circuit was opened by hand" if target.circuit.by_hand else " is failing: its circuit is open"
        return Blocker(f"{target.name}{words}", stalled=True, kind="circuit")
    # The buckets don't list them: with shared_quota, several keys share one bucket.
    accounts = {account for account in system.accounts if account.startswith(f"{target.provider}/")}
    blocked = {account: blocked_by(limits, account, target.model) for account in accounts}
    if blocked and all(blocked.values()):
        first = min(blocked)
        return Blocker(f"the account {subject(first)} is blocked: {blocked[first]}", stalled=True, kind="account")
    if target.buckets and all(bucket.paused_until > limits.now for bucket in target.buckets):
        seconds = (min(bucket.paused_until for bucket in target.buckets) - limits.now) / 1_000_000
        words = f"{target.name} answered 429: paused for {seconds:.0f} s"
        return Blocker(words, stalled=seconds > SHORT, kind="pause")
    scarce = [words for bucket in target.buckets if (words := of_bucket(bucket))]
    if scarce and len(scarce) == len(target.buckets):
        return Blocker(f"{scarce[0]} at {target.name}", kind="quota")
    return Blocker()


def of_bucket(bucket: BucketState) -> str:
    """The dimension that the bucket's calls wait for; '' if it has room."""
    if bucket.concurrency and bucket.in_flight >= bucket.concurrency:
        return f"{bucket.concurrency:,} {DIMENSIONS['concurrency']}"
    for dimension in bucket.dimensions:
        room = dimension.rate * dimension.burst
        if room and dimension.available < SCARCE * room:
            return f"{dimension.limit:,} {DIMENSIONS.get(dimension.name, dimension.name)}"
    return ""


def of_queue(depth: Depth | None) -> Blocker:
    """The blocker of a stalled workflow if no other one is known."""
    if depth is None or depth.in_flight:
        return Blocker()
    if depth.ready:
        words = f"a worker that serves its queue: none of its {depth.ready:,} ready jobs has been claimed lately"
        return Blocker(words, stalled=True, kind="unclaimed")
    if depth.delayed:
        return Blocker(f"its delayed jobs: {depth.delayed:,} are tried again later", kind="delayed")
    return Blocker()


class Blockers:
    """What the batches and workflows of a snapshot wait for. `workers`: how many run, None if unknown."""

    def __init__(self, system: SystemSnapshot, workers: int | None) -> None:
        self.system = system
        self.workers = workers
        self._of_target = {target.name: of_target(target, system) for target in targets(system)}
        self._used: dict[str, set[str]] = {}
        for entry in system.today:
            self._used.setdefault(entry.workflow, set()).add(entry.target)
        self._full = {state.subject: of_budget(state) for state in system.limits.budgets if spent(state)}
        self._known: dict[str, Blocker] = {}

    def of_batch(self, batch: Batch) -> Blocker:
        """What `batch` waits for; nothing if it is over."""
        found = self._known.get(batch.id)
        if found is None:
            found = self._known[batch.id] = self._of_batch(batch)
        return found

    def of_workflow(self, workflow: str, depth: Depth | None) -> Blocker:
        """What the single jobs of `workflow` wait for."""
        if depth is None or not depth.total:
            return Blocker()
        if found := self._of_pause(workflow, None):
            return found
        return self._of_all() or self._of_limits(workflow, "", ()) or Blocker()

    def _of_batch(self, batch: Batch) -> Blocker:
        if batch.over:
            return Blocker()
        if batch.trouble:
            return Blocker(batch.trouble, stalled=True, kind="files")
        if batch.status != "in_progress":
            return self._of_all() or Blocker()
        if found := self._of_pause(batch.workflow, batch.id):
            return found
        if found := self._of_all():
            return found
        if batch.told and self.system.at - batch.told_at < TOLD:
            return Blocker(batch.told, stalled=True, kind="configuration")
        if words := waits_for(batch, self.system.chunks.get(batch.id, ())):
            return Blocker(words, kind="batch_lane")
        if batch.in_pilot and batch.pilot_fed >= batch.pilot and not batch.out:
            words = f"your go-ahead after its pilot: overnight resume {batch.id}"
            return Blocker(words, stalled=True, kind="pilot")
        found = self._of_limits(batch.workflow, batch.id, batch.targets)
        return found or self._if_still(batch)

    def _of_pause(self, workflow: str, batch_id: str | None) -> Blocker | None:
        found = pauses.since(self.system.paused, workflow, batch_id)
        if found is None:
            return None
        name, began = found
        words = f"you: {pauses.words(name)} (since {datetime.fromtimestamp(began, UTC):%Y-%m-%d %H:%M} UTC)"
        return Blocker(f"{words}; deadlines keep running", kind="paused")

    def _of_all(self) -> Blocker | None:
        """What every batch waits for: the server, or a worker."""
        system = self.system
        if system.refuses:
            return Blocker(f"the Redis server, which refuses writes: {system.refuses}", stalled=True, kind="redis")
        if self.workers == 0:
            if held := sum(depth.in_flight for depth in (system.queues or {}).values()):
                words = f"a worker: those that claimed {held:,} jobs have fallen silent; see their logs"
                return Blocker(words, stalled=True, kind="no_worker")
            return Blocker("a worker: none is running", stalled=True, kind="no_worker")
        return None

    def _of_limits(self, workflow: str, batch: str, names: Collection[str]) -> Blocker | None:
        for each in ("all", f"workflow/{workflow}", f"workflow/{workflow}/{batch}"):
            if each in self._full:
                return self._full[each]
        names = set(names) or self._used.get(workflow) or self._of_target
        states = [wait for name, wait in self._of_target.items() if name in names]
        if not states or not all(wait.words for wait in states):
            return None  # a target has room
        # A target that takes calls, if slowly, is the blocker; those that take none only narrow the choice.
        return next((wait for wait in states if not wait.stalled), states[0])

    def _if_still(self, batch: Batch) -> Blocker:
        """What `batch` waits for if no job has ended for a while and no other blocker is known."""
        if batch.still(self.system.at) < STILL:
            return Blocker()
        if self.system.lead > LEAD:
            words = f"the Redis server's clock, which was set back by {self.system.lead:,.0f} s"
            return Blocker(words, stalled=True, kind="clock")
        if batch.short_since:
            words = "lost messages: their lines are queued again two minutes after the loss was noticed"
            return Blocker(words, stalled=True, kind="lost")
        if batch.offloaded and not batch.out:
            return Blocker("its provider batches", kind="batch_lane")
        depth = self.system.depth(batch.workflow)
        if (found := of_queue(depth)).words:
            return found
        if depth is not None and depth.in_flight:
            return Blocker()  # its calls take long
        words = "a worker that puts its lines into the queue: none has done so lately; see the workers' logs"
        return Blocker(words, stalled=True, kind="feed")


def of_batch(system: SystemSnapshot, batch: Batch, workers: int | None) -> Blocker:
    """What `batch` waits for. `workers`: how many run, None if unknown."""
    return Blockers(system, workers).of_batch(batch)


def lower_limits(system: SystemSnapshot, batch: Batch) -> list[str]:
    """The limits of a batch's models that a provider states lower than they are configured, in words."""
    called = {entry.target for entry in system.today if entry.workflow == batch.workflow}
    names = set(batch.targets) or called
    return [
        f"{target.name}: its answers state {each.limit:,} {DIMENSIONS.get(each.name, each.name)}; "
        f"{each.configured:,} are configured"
        for target in targets(system)
        if target.name in names and target.buckets
        for each in target.buckets[0].dimensions
        if each.limit < each.configured
    ]
