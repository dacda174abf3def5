"""How the checks of answers look in a batch's summary and status, and in a job's report."""

from collections.abc import Iterator, Mapping
from typing import Any

from rich.table import Table

from limits.budget import NANO
from tasks.batches.batch import Batch
from tasks.batches.check_counts import words
from workers.figures import dollars


def rows(grid: Table, batch: Batch) -> None:
    """Rows for answers that are not what was asked for, and for those that were cut off; none if there are none."""
    if found := words(batch.check_counts, batch.again_cost):
        grid.add_row("checks", f"[yellow]{found}[/]")
    if batch.cut_off:
        grid.add_row("cut off", f"[yellow]{_cut_off(batch)}[/]")


def of_job(report: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Rows for one job, from the report of its result line: its check, and each answer if it had several."""
    if "checks" in report:
        yield "checks", report["checks"]["result"]
    for number, each in enumerate(report.get("answers", ()), 1):
        ending = each["error"]["code"] if "error" in each else each["checks"]["result"]
        target = f"{each['provider']}/{each['model']}: " if each["provider"] else ""
        cost = f", {dollars(round(each['cost_usd'] * NANO))}" if each["cost_usd"] else ""
        yield f"answer {number}", f"{target}{ending}{cost}"


def _cut_off(batch: Batch) -> str:
    """How many answers reached their limit of tokens, and how to raise it."""
    many = f"{batch.cut_off:,} answer{'s' if batch.cut_off != 1 else ''} reached the limit of output tokens"
    if not batch.cut_off_default:
        return f"{many}: their lines set it"
    which = "" if batch.cut_off_default == batch.cut_off else f", {batch.cut_off_default:,} of them"
    return (
        f"{many}{which} a default, since the line sets none: set max_tokens in the lines, or a larger "
        f"default_max_tokens in the workflow"
    )
