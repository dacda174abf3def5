"""How far a batch has come in the batch lane, for `status` and metrics."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from limits.budget import NANO
from tasks.batches import chunk as chunks
from tasks.batches.batch import Batch
from tasks.batches.chunk import Chunk


@dataclass(frozen=True, slots=True)
class LaneReport:
    """The sums of a batch's chunks, and its calls in the flex lane. Money in n$."""

    completed: int
    failed: int
    went_live: int
    in_lane: int
    cost: int
    saved: int
    states: dict[str, int]
    flex_calls: int = 0
    flex_saved: int = 0

    def shown(self, batch: Batch) -> dict[str, Any]:
        """As `overnight status --json` prints it."""
        flex = {"flex": {"calls": self.flex_calls, "saved_usd": self.flex_saved / NANO}} if batch.has_flex_lane else {}
        return {
            "allowed": (batch.lanes or "live").split(","),
            "batch": {
                "in_lane": self.in_lane,
                "completed": self.completed,
                "failed": self.failed,
                "went_live": self.went_live,
                "cost_usd": self.cost / NANO,
                "saved_usd": self.saved / NANO,
            },
            **flex,
        }


def report(batch: Batch, found: Sequence[Chunk], flex_calls: int = 0, flex_saved: int = 0) -> LaneReport:
    """Sum up the chunks of a batch. `flex_calls`, `flex_saved`: what the ledger has of its flex lane."""
    return LaneReport(
        completed=sum(chunk.completed for chunk in found),
        failed=sum(chunk.failed for chunk in found),
        went_live=sum(chunk.returned for chunk in found),
        in_lane=0 if batch.over else batch.offloaded,
        cost=sum(chunk.cost for chunk in found),
        saved=sum(chunk.saved for chunk in found),
        states=dict(Counter(chunk.state for chunk in found)),
        flex_calls=flex_calls,
        flex_saved=flex_saved,
    )


def waits_for(batch: Batch, found: Sequence[Chunk]) -> str:
    """What the lines in the batch lane wait for, in words; '' if none is there, or live lines run as well."""
    away = [chunk for chunk in found if chunk.state != chunks.CLOSED]
    if not away or not batch.offloaded or batch.out:
        return ""
    for chunk in away:
        if chunk.trouble:
            return f"chunk {chunk.number + 1} ({chunk.state}) at {chunk.target}: {chunk.trouble}"
    running = [chunk for chunk in away if chunk.state == chunks.RUNNING]
    if not running:
        return ""
    names = ", ".join(sorted({chunk.target for chunk in running}))
    return f"{len(running)} provider batch{'es' if len(running) != 1 else ''} at {names}"
