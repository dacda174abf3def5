"""How a worker treats a queue: its workflow's settings and its gate."""

from dataclasses import dataclass

from workers.config.current import current_settings
from workers.transport.gates import gates
from workers.transport.queues import workflow_of


@dataclass(frozen=True, slots=True)
class Policy:
    """How a worker treats a queue now."""

    weight: float = 1.0  # its share relative to other queues
    cap: int = 0  # messages in flight in all workers; 0: any number
    urgent: bool = False  # may use the slots that are kept for urgent work
    allowed: int | None = None  # messages that may be claimed now; None: any number, 0: its gate is closed
    shared: bool = False  # unconfigured: all such queues together have one share


def policy(queue: str) -> Policy:
    """How this worker treats a queue now."""
    workflow = workflow_of(queue)
    if workflow is None:
        return Policy()
    settings = current_settings()
    chosen = settings.workflow(workflow)
    shared = workflow not in settings.workflows
    return Policy(chosen.weight, chosen.concurrency, chosen.priority == "urgent", gates.allowed(workflow), shared)


def claimed(queue: str, count: int) -> None:
    """Tell the queue's gate that `count` messages were claimed."""
    if workflow := workflow_of(queue):
        gates.claimed(workflow, count)
