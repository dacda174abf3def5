"""What a batch waits for right now, in words: read from the state of its limits, not from what jobs were told."""

from collections.abc import Collection

from limits.overview import BucketState, BudgetState, Snapshot
from tasks.batch import Batch
from tasks.overview import Overview, Target, targets
from tasks.reasons import DIMENSIONS, budget, subject
from tasks.show import dollars

#: A dimension of which less than this part is free is what a workflow waits for.
SCARCE = 0.1

#: From this part on, a budget of which no call holds anything is spent: what is left pays for none.
NEARLY = 0.98


def spent(state: BudgetState) -> bool:
    """Whether a budget has nothing left that a call could be paid from: no call holds any of the little there is."""
    return state.spent >= state.limit or (not state.held and state.spent > NEARLY * state.limit)


def of_budget(state: BudgetState) -> str:
    """That a budget is spent."""
    return f"{budget(state.subject)} is spent: {dollars(state.spent)} of {dollars(state.limit)}"


def of_target(target: Target, limits: Snapshot) -> tuple[bool, str]:
    """Whether a model takes no call now, and what its calls wait for in words; '' for nothing."""
    if target.circuit is not None and target.circuit.state == "open":
        words = "its circuit was opened by hand" if target.circuit.by_hand else "it is failing, its circuit is open"
        return True, f"{target.name}: {words}"
    accounts = {f"{target.provider}/{bucket.bucket.split('/')[1]}" for bucket in target.buckets}
    if accounts and accounts <= set(limits.latches):
        return True, f"the account {subject(min(accounts))} is blocked: {limits.latches[min(accounts)]}"
    if target.buckets and all(bucket.paused_until > limits.now for bucket in target.buckets):
        seconds = (min(bucket.paused_until for bucket in target.buckets) - limits.now) / 1_000_000
        return True, f"{target.name} has answered 429: it is left alone for {seconds:.0f} s"
    scarce = [words for bucket in target.buckets if (words := of_bucket(bucket))]
    return False, f"{scarce[0]} at {target.name}" if target.buckets and len(scarce) == len(target.buckets) else ""


def of_bucket(bucket: BucketState) -> str:
    """The dimension that holds up the bucket's calls; '' for none."""
    if bucket.concurrency and bucket.in_flight >= bucket.concurrency:
        return f"{bucket.concurrency:,} {DIMENSIONS['concurrency']}"
    for dimension in bucket.dimensions:
        room = dimension.rate * dimension.burst
        if room and dimension.available < SCARCE * room:
            return f"{dimension.limit:,} {DIMENSIONS.get(dimension.name, dimension.name)}"
    return ""


def of_batch(overview: Overview, batch: Batch, workers: int | None) -> str:
    """What a batch that is not over waits for; '' where it just goes on. `workers`: how many run, None: unknown."""
    if batch.trouble:
        return batch.trouble
    if batch.status != "in_progress":
        return ""
    if workers == 0:
        return "a worker: none is running"
    subjects = {"all", f"workflow/{batch.workflow}", f"workflow/{batch.workflow}/{batch.id}"}
    for state in overview.limits.budgets:
        if state.subject in subjects and spent(state):
            return of_budget(state)
    return of_models(overview, used(overview, batch.workflow))


def of_models(overview: Overview, names: Collection[str]) -> str:
    """What the calls to these models wait for: nothing, as long as one of them has room."""
    states = [of_target(target, overview.limits) for target in targets(overview) if target.name in names]
    if not states or not all(words for _, words in states):
        return ""
    shut = [words for is_shut, words in states if is_shut]
    return (shut or [words for _, words in states])[0]


def used(overview: Overview, workflow: str) -> set[str]:
    """The models that a workflow has called today; all of them where it has called none."""
    found = {f"{row.provider}/{row.model}" for row in overview.today if row.workflow == workflow}
    return found or {target.name for target in targets(overview)}
