"""How schedules look."""

from collections.abc import Sequence
from typing import Any

from rich.table import Table

from tasks.console.view import console, escape, listing, say

_STATES = {
    "ran": "[green]ran[/]",
    "waiting": "[yellow]waiting for its input[/]",
    "failed": "[red]failed[/]",
    "skipped": "[red]missed[/]",
}


def table(found: Sequence[dict[str, Any]], *, beat: bool) -> None:
    """A line for each schedule; below, why last runs did not succeed."""
    if not found:
        say("no schedules: add a [schedules.NAME] table to overnight.toml")
        return
    rows = Table(box=None, pad_edge=False, header_style="dim")
    for title in ("schedule", "workflow", "last run", "", "batch", "done", "next run"):
        rows.add_column(title)
    for each in found:
        last = each["last"] or {}
        counts = last.get("request_counts")
        rows.add_row(
            escape(each["schedule"]),
            escape(each["workflow"]),
            _when(last["local"]) if last else "none yet",
            _STATES[last["state"]] + (" [yellow]late[/]" if last["missed"] and last["batch"] else "") if last else "",
            last.get("batch") or "",
            f"{counts['completed'] + counts['failed']:,}/{counts['total']:,} {last['status']}" if counts else "",
            _when(each["next"]["local"]),
        )
    listing(rows)
    for each in found:
        if each["last"] and each["last"]["words"]:
            console.print(f"{escape(each['schedule'])}: {escape(each['last']['words'])}", soft_wrap=True)
    if not beat:
        console.print("[red]no beat is running, so nothing will start[/]: overnight beat")


def again(name: str, scheduled_for: str, *, beat: bool) -> None:
    """A run is to be repeated."""
    when = "within a few seconds" if beat else "as soon as a beat runs: overnight beat"
    console.print(escape(f"{name}: the run of {scheduled_for} starts again {when}"), soft_wrap=True)


def _when(local: str) -> str:
    """A moment in the schedule's time zone, to the minute."""
    return f"{local[:10]} {local[11:16]} {local[19:]}"
