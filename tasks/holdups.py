"""What a batch waits for right now, in words: read from the state of its limits, not from what jobs were told."""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import UTC, datetime

from limits.overview import BucketState, BudgetState
from tasks.batch import Batch
from tasks.gauges import Gauges
from tasks.overview import Overview, Target, targets
from tasks.reasons import DIMENSIONS, budget, subject
from workers.budgets import dollars

#: A dimension of which less than this part is free is what a workflow waits for.
SCARCE = 0.1

#: From this part on, a budget of which no call holds anything is spent: what is left pays for none.
NEARLY = 0.98

#: A pause of up to so many seconds is the quota's pace; a longer one holds up.
SHORT = 60.0


@dataclass(frozen=True, slots=True)
class Wait:
    """What something waits for, in words; '' for nothing. `held_up`: it stands still, and not just at its quota."""

    words: str = ""
    held_up: bool = False


def spent(state: BudgetState) -> bool:
    """Whether a budget has nothing left that a call could be paid from: no call holds any of the little there is."""
    return state.spent >= state.limit or (not state.held and state.spent > NEARLY * state.limit)


def of_budget(state: BudgetState) -> str:
    """That a budget is spent, and until when."""
    turns = datetime.fromtimestamp(state.resets / 1_000_000, UTC)
    until = f" until {turns:%Y-%m-%d %H:%M} UTC" if state.resets else ""
    return f"{budget(state.subject)} is spent{until}: {dollars(state.spent)} of {dollars(state.limit)}"


def of_target(target: Target, limits: Gauges) -> Wait:
    """What the calls to a model wait for."""
    if target.circuit is not None and target.circuit.state == "open":
        words = "its circuit was opened by hand" if target.circuit.by_hand else "it is failing, its circuit is open"
        return Wait(f"{target.name}: {words}", held_up=True)
    # Not those of the buckets: with shared_quota, several keys draw on one.
    accounts = {account for account in limits.accounts if account.startswith(f"{target.provider}/")}
    blocked = {account: limits.blocked(account, target.model) for account in accounts}
    if blocked and all(blocked.values()):
        first = min(blocked)
        return Wait(f"the account {subject(first)} is blocked: {blocked[first]}", held_up=True)
    if target.buckets and all(bucket.paused_until > limits.now for bucket in target.buckets):
        seconds = (min(bucket.paused_until for bucket in target.buckets) - limits.now) / 1_000_000
        return Wait(f"{target.name} has answered 429: it is left alone for {seconds:.0f} s", held_up=seconds > SHORT)
    scarce = [words for bucket in target.buckets if (words := of_bucket(bucket))]
    return Wait(f"{scarce[0]} at {target.name}" if scarce and len(scarce) == len(target.buckets) else "")


def of_bucket(bucket: BucketState) -> str:
    """The dimension that holds up the bucket's calls; '' for none."""
    if bucket.concurrency and bucket.in_flight >= bucket.concurrency:
        return f"{bucket.concurrency:,} {DIMENSIONS['concurrency']}"
    for dimension in bucket.dimensions:
        room = dimension.rate * dimension.burst
        if room and dimension.available < SCARCE * room:
            return f"{dimension.limit:,} {DIMENSIONS.get(dimension.name, dimension.name)}"
    return ""


def of_batch(overview: Overview, batch: Batch, workers: int | None) -> Wait:
    """What a batch that is not over waits for. `workers`: how many run, None: unknown."""
    if batch.trouble:
        return Wait(batch.trouble, held_up=True)
    if batch.status != "in_progress":
        return Wait()
    if workers == 0:
        return Wait("a worker: none is running", held_up=True)
    subjects = {"all", f"workflow/{batch.workflow}", f"workflow/{batch.workflow}/{batch.id}"}
    for state in overview.limits.budgets:
        if state.subject in subjects and spent(state):
            return Wait(of_budget(state), held_up=True)
    return of_models(overview, set(batch.targets) or used(overview, batch.workflow))


def of_models(overview: Overview, names: Collection[str]) -> Wait:
    """What the calls to these models wait for: nothing, as long as one of them has room."""
    states = [of_target(target, overview.limits) for target in targets(overview) if target.name in names]
    if not all(wait.words for wait in states):
        return Wait()
    # One that takes calls, if slowly, is what they wait for; the others are out.
    return next((wait for wait in states if not wait.held_up), states[0] if states else Wait())


def used(overview: Overview, workflow: str) -> set[str]:
    """The models that a workflow has called today; all of them where it has called none."""
    found = {entry.target for entry in overview.today if entry.workflow == workflow}
    return found or {target.name for target in targets(overview)}
