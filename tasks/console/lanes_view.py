"""How the lanes of a batch look: in `estimate`, `submit` and `status`."""

import time
from collections.abc import Sequence

from rich.table import Table

from tasks.batches.batch import Batch
from tasks.batches.chunk import Chunk
from tasks.batches.lane_forecast import LaneForecast
from tasks.batches.lane_report import report
from tasks.console.view import escape, jobs, when
from tasks.monitoring.costs import Spent
from workers.figures import dollars, duration

#: Chunks that are shown, one a line.
SHOWN = 20


def plan(lanes: LaneForecast) -> str:
    """What the lanes would cost, and when the jobs are done."""
    if lanes.reason:
        return f"live: {lanes.reason}"
    cost = ""
    if lanes.cost is not None and lanes.live_cost is not None:
        cost = f": {dollars(lanes.cost)}, {dollars(lanes.live_cost)} live"
    ends = when(time.time() + lanes.seconds)
    ways = [f"{count:,} by {lane}" for lane, count in (("batch", lanes.lines), ("flex", lanes.flex)) if count]
    likely = ""
    if lanes.nine_tenths:
        likely = f"half in {duration(lanes.half)}, 90 % in {duration(lanes.nine_tenths)}, "
    return f"{' and '.join(ways)} of {jobs(lanes.total)}{cost}; {likely}done by {ends} at the latest"


def submitted(batch: Batch) -> str:
    """What a batch that was just submitted is expected to cost by its lanes."""
    cost = f"about {dollars(batch.expected_cost)}" if batch.expected_cost else "cost unknown"
    likely = f"90 % in {duration(batch.expected_lane_seconds)}, " if batch.expected_lane_seconds else ""
    return f"lanes {batch.lanes.replace(',', ', ')}: {cost}, {likely}done by {when(batch.deadline)} at the latest"


def rows(grid: Table, batch: Batch, chunks: Sequence[Chunk], spent: Spent) -> None:
    """The rows of a batch that may use a cheaper lane. `spent`: what the ledger has of it."""
    if not batch.lanes:
        return
    lanes = report(batch, chunks)
    if batch.has_batch_lane:
        live = f", {lanes.went_live:,} went live" if lanes.went_live else ""
        grid.add_row("batch lane", f"{lanes.in_lane:,} jobs in it, {lanes.completed + lanes.failed:,} ended{live}")
    if batch.has_flex_lane:
        grid.add_row("flex lane", f"{spent.flex_calls:,} answers")
    grid.add_row("saved", f"{dollars(lanes.saved + spent.flex_saved)} against the live price")
    for chunk in chunks[-SHOWN:]:
        away = f", {chunk.provider_batch} is {chunk.provider_state}" if chunk.provider_batch else ""
        words = f"{chunk.state}: {jobs(chunk.lines)} at {chunk.target}{away}"
        grid.add_row(f"chunk {chunk.number + 1}", escape(f"{words} ({chunk.trouble})" if chunk.trouble else words))
    if len(chunks) > SHOWN:
        grid.add_row("", f"and {len(chunks) - SHOWN:,} more chunks: --json lists all")
