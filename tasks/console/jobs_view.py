"""How a job report looks, on stdout, since it is the command's result. It contains no prompt and no answer."""

import json
from datetime import UTC, datetime

from rich.console import Console
from rich.table import Table

from tasks.agents.journal_record import Entry
from tasks.batches.batch import Batch
from tasks.batches.report import JobReport
from tasks.console import checks_view
from tasks.console.view import escape, listing
from workers.figures import dollars


def job_report(batch: Batch, report: JobReport) -> None:
    """One job: facts, and an agent's journal."""
    console = Console(highlight=False)
    grid = Table.grid(padding=(0, 2))
    grid.add_row("job", escape(report.line.custom_id))
    grid.add_row("batch", f"{batch.id}, line {report.number}")
    grid.add_row("workflow", escape(batch.workflow))
    grid.add_row("calls", escape((report.line.agent and f"agent {report.line.agent}") or report.line.model))
    grid.add_row("now", escape(report.where))
    if report.journal is not None:
        grid.add_row("cost", dollars(report.journal.cost))
        grid.add_row("requests", f"{report.journal.calls:,}, {report.journal.throttled:,} of them throttled (429)")
        grid.add_row("waits", f"{report.journal.waits:,}")
    elif report.result is not None:
        known = report.result["overnight"]
        grid.add_row("cost", f"${known['cost_usd']:.6f}".rstrip("0"))
        grid.add_row("attempts", f"{known['attempts']:,}")
        grid.add_row("target", escape(f"{known['provider']}/{known['model']}" if known["provider"] else "none"))
        for row, words in checks_view.of_job(known):
            grid.add_row(row, escape(words))
    if report.result is not None and (error := report.result["error"]):
        grid.add_row("error", escape(f"{error['code']}: {json.dumps(error['message'], ensure_ascii=False)[1:-1]}"))
    console.print(grid)
    if report.journal is not None and report.journal.entries:
        listing(_journal(list(report.journal.entries.values())), console)


def _journal(entries: list[Entry]) -> Table:
    rows = Table(box=None, pad_edge=False)
    for name in ("position", "ended", "what", "target", "attempts", "tokens", "cost", "seconds", ""):
        rows.add_column(name, justify="right" if name in {"attempts", "cost", "seconds"} else "left")
    for entry in entries:
        call = entry.kind == "call"
        rows.add_row(
            entry.position,
            datetime.fromtimestamp(entry.at, UTC).strftime("%H:%M:%S"),
            escape(f"{entry.kind} {entry.name}"),
            escape(entry.target),
            f"{entry.attempts}" if call else "",
            f"{entry.input_tokens:,} in, {entry.output_tokens:,} out" if call else "",
            dollars(entry.cost) if call else "",
            f"{entry.seconds:.2f}",
            "" if entry.ok else escape(entry.code),
        )
    return rows
