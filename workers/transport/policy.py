"""How a worker treats a queue now: what its workflow's settings say, and its gate."""

from dataclasses import dataclass

from workers.config.current import current_settings
from workers.transport.gates import gates
from workers.transport.queues import workflow_of


@dataclass(frozen=True, slots=True)
class Policy:
    """How a queue is to be treated.

    `weight`: its share beside others. `cap`: how many may be in flight in all workers, 0 for any number. `urgent`:
    may use the slots that are kept for urgent work. `allowed`: how many may be claimed now, None for any number, 0
    while it is gated. `shared`: its share is a part of the one that all unconfigured workflows have together.
    """

    weight: float = 1.0
    cap: int = 0
    urgent: bool = False
    allowed: int | None = None
    shared: bool = False


def policy(queue: str) -> Policy:
    """How this worker treats a queue now: its workflow's settings, and its gate."""
    workflow = workflow_of(queue)
    if workflow is None:
        return Policy()
    settings = current_settings()
    chosen = settings.workflow(workflow)
    shared = workflow not in settings.workflows
    return Policy(chosen.weight, chosen.concurrency, chosen.priority == "urgent", gates.allowed(workflow), shared)


def claimed(queue: str, count: int) -> None:
    """So many messages of a queue were claimed just now: its gate may be ajar."""
    if workflow := workflow_of(queue):
        gates.claimed(workflow, count)
