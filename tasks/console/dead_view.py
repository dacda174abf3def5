"""How dead letters look."""

from typing import Any

from rich.table import Table

from tasks.console.view import escape, listing, say


def dead(rows: list[dict[str, Any]]) -> None:
    """A line for each dead letter, oldest first."""
    if not rows:
        say("no dead letters")
        return
    found = Table("id", "queue", "set aside", "bytes", "reason", box=None, pad_edge=False)
    for row in rows:
        found.add_row(row["id"], escape(row["queue"]), row["at"], f"{row['bytes']:,}", escape(row["reason"]))
    listing(found)
