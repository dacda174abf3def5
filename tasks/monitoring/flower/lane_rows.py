"""The rows of chunks on the page of workflows and batches, and how many jobs of a batch each lane has."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from tasks.batches import chunk as chunks
from tasks.batches.batch import Batch
from tasks.batches.chunk import Chunk
from tasks.batches.lane_report import report
from tasks.monitoring.snapshot import SystemSnapshot
from workers.figures import dollars

#: Chunks that are shown at most: those that are not closed first, then the newest.
SHOWN: Final = 50

#: A chunk's state -> the background of its badge, one of Bootstrap's; any other state is on its way there.
BADGES: Final[Mapping[str, str]] = {chunks.RUNNING: "primary", chunks.CLOSED: "success", chunks.CUT: "secondary"}


@dataclass(frozen=True, slots=True)
class ChunkRow:
    """A chunk's row. `provider_state`: its provider batch's state, in the provider's own word."""

    batch: str
    number: int
    target: str
    jobs: str
    state: str
    badge: str
    provider_batch: str
    provider_state: str
    ended: str
    cost: str
    saved: str
    words: str


def counts(batch: Batch, found: Sequence[Chunk]) -> str:
    """How many jobs of a batch each lane has, and what was saved; '' if it may only use live calls."""
    if not batch.lanes:
        return ""
    lanes = report(batch, found)
    answered = lanes.completed + lanes.failed
    others = "flex or live" if batch.has_flex_lane else "live"
    copies = batch.copies - batch.waiting_copies
    parts = (
        (lanes.in_lane, "in the batch lane"),
        (answered, "by batch"),
        (max(0, batch.done - answered - copies), others),
        (copies, "copies"),
    )
    words = [f"{count:,} {where}" for count, where in parts if count]
    return " · ".join((*words, *([f"{dollars(lanes.saved)} saved"] if lanes.saved else [])))


def chunk_rows(system: SystemSnapshot) -> list[ChunkRow]:
    """A row for each chunk: those that are not closed, then the newest others."""
    every = [chunk for batch in system.batches for chunk in reversed(system.chunks.get(batch.id, ()))]
    every.sort(key=lambda chunk: chunk.state == chunks.CLOSED)
    return [_row(chunk) for chunk in every[:SHOWN]]


def _row(chunk: Chunk) -> ChunkRow:
    parts = ((chunk.completed, "answered"), (chunk.failed, "failed"), (chunk.returned, "went live"))
    return ChunkRow(
        batch=chunk.batch,
        number=chunk.number + 1,
        target=chunk.target,
        jobs=f"{chunk.lines:,}",
        state="cancelling" if chunk.state == chunks.RUNNING and chunk.cancelled_at else chunk.state,
        badge="warning" if chunk.returned or chunk.cancelled_at else BADGES.get(chunk.state, "info"),
        provider_batch=chunk.provider_batch,
        provider_state=chunk.provider_state,
        ended=" · ".join(f"{count:,} {what}" for count, what in parts if count),
        cost=dollars(chunk.cost),
        saved=dollars(chunk.saved),
        words=chunk.trouble,
    )
