"""What a person sees of messages that no worker could read."""

from typing import Any

from rich.table import Table

from tasks.console.view import escape, listing, say


def dead(rows: list[dict[str, Any]]) -> None:
    """Messages that no worker could read, oldest first."""
    if not rows:
        say("no message was set aside")
        return
    found = Table("id", "queue", "set aside", "bytes", "reason", box=None, pad_edge=False)
    for row in rows:
        found.add_row(row["id"], escape(row["queue"]), row["at"], f"{row['bytes']:,}", escape(row["reason"]))
    listing(found)
