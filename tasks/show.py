"""What a person sees of batches: on stderr, with a progress bar where there is a terminal."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn
from rich.table import Table

from tasks.batch import NANO, Batch
from tasks.collect import sample
from tasks.files import Files

if TYPE_CHECKING:
    from tasks.check import Finding

console = Console(stderr=True, highlight=False)

#: How much of an answer a sample shows, in characters.
SAMPLE = 160


class Bar(Protocol):
    """What shows a batch's progress."""

    def update(self, batch: Batch) -> None:
        """Show where the batch is now."""


class _Silent:
    """No terminal: no bar."""

    def update(self, batch: Batch) -> None:
        """Show nothing."""


class _Rich:
    """A bar with what a person asks about: how many, how fast, how long, how much."""

    def __init__(self, bar: Progress) -> None:
        self.bar = bar
        self.task: TaskID | None = None

    def update(self, batch: Batch) -> None:
        """Show where the batch is now."""
        story = f"{dollars(batch.cost)}"
        if batch.failed:
            story += f" · {batch.failed} failed"
        if batch.throttled:
            story += f" · {batch.throttled} x 429"
        if batch.trouble:
            story += f" · {escape(batch.trouble)}"
        if self.task is None:
            self.task = self.bar.add_task(batch.status, total=batch.total)
        self.bar.update(self.task, completed=batch.done, description=batch.status.replace("_", " "), story=story)


@contextmanager
def progress() -> Iterator[Bar]:
    """A progress bar on stderr, or none where stderr is no terminal."""
    if not sys.stderr.isatty():
        yield _Silent()
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[story]}"),
    )
    with Progress(*columns, console=console, transient=True) as bar:
        yield _Rich(bar)


def say(words: str) -> None:
    """A line for a person."""
    console.print(escape(words), soft_wrap=True)


def error(words: str) -> None:
    """What is wrong, a line each."""
    for line in words.splitlines():
        console.print(f"[red]✗[/] {escape(line)}", soft_wrap=True)


def begun(batch: Batch, new: bool) -> None:
    """A batch was submitted, or found."""
    if new:
        say(f"{batch.id}: {jobs(batch.total)} for workflow {batch.workflow}")
    elif batch.over:
        say(f"{batch.id}: this file was run before ({batch.status}); nothing is called again")
    else:
        say(f"{batch.id}: this file was submitted before; it goes on at {batch.done:,} of {jobs(batch.total)}")


def interrupted(batch: Batch) -> None:
    """The person stopped it."""
    say(f"Stopped at {batch.done:,} of {jobs(batch.total)}. What is done is kept: the same command goes on from here.")


def ended(batch: Batch, output: Path, errors: Path, *, seconds: float) -> None:
    """The summary of a run, and a few of its answers."""
    grid = Table.grid(padding=(0, 2))
    grid.add_row("jobs", f"{batch.completed:,} succeeded, {batch.failed:,} failed")
    grid.add_row("tokens", f"{batch.input_tokens:,} in, {batch.output_tokens:,} out")
    grid.add_row("cost", dollars(batch.cost))
    grid.add_row("calls", f"{batch.calls:,}, of which {batch.throttled:,} met a 429")
    grid.add_row("seconds", f"{seconds:.1f}")
    grid.add_row("output", str(output))
    if batch.failed:
        grid.add_row("errors", str(errors))
    console.print(grid)
    for line in sample(Files(batch.storage, batch.id), 3):
        console.print(f"  [dim]{escape(str(line['custom_id']))}[/]  {escape(answer_text(line))}", soft_wrap=True)


def answer_text(line: dict[str, object]) -> str:
    """The first words of an answer, whatever its wire format."""
    response = line.get("response")
    body = response.get("body") if isinstance(response, dict) else None
    text = _text(body) if isinstance(body, dict) else ""
    text = " ".join(text.split())
    return text if len(text) <= SAMPLE else f"{text[: SAMPLE - 1]}…"


def _text(body: dict[str, object]) -> str:
    """The text of a chat completion, a response or a message; of embeddings, what they are."""
    match body:
        case {"choices": [{"message": {"content": str(text)}}, *_]}:
            return text
        case {"content": [{"text": str(text)}, *_]}:
            return text
        case {"output": [*items]}:
            for item in items:
                match item:
                    case {"content": [{"text": str(text)}, *_]}:
                        return text
        case {"data": [{"embedding": [*numbers]}, *_]}:
            return f"an embedding of {len(numbers)} numbers"
    return ""


def dead(rows: list[dict[str, Any]]) -> None:
    """Messages that no worker could read, oldest first."""
    if not rows:
        say("no message was set aside")
        return
    found = Table(box=None, pad_edge=False)
    for name in ("id", "queue", "set aside", "bytes", "reason"):
        found.add_column(name, overflow="fold")
    for row in rows:
        found.add_row(row["id"], escape(row["queue"]), row["at"], f"{row['bytes']:,}", escape(row["reason"]))
    console.print(found)


def table(batches: list[Batch]) -> None:
    """All batches, newest first."""
    if not batches:
        say("no batches yet: overnight submit IN.jsonl -w WORKFLOW")
        return
    rows = Table(box=None, pad_edge=False)
    for name in ("batch", "workflow", "status", "done", "failed", "cost", "submitted"):
        rows.add_column(name)
    for batch in batches:
        rows.add_row(
            batch.id,
            escape(batch.workflow),
            batch.status,
            f"{batch.done:,}/{batch.total:,}",
            f"{batch.failed:,}",
            dollars(batch.cost),
            when(batch.created),
        )
    console.print(rows)


def one(batch: Batch) -> None:
    """One batch, a fact a line."""
    grid = Table.grid(padding=(0, 2))
    grid.add_row("batch", batch.id)
    grid.add_row("input", escape(batch.name))
    grid.add_row("workflow", escape(batch.workflow))
    grid.add_row("status", batch.status)
    grid.add_row("jobs", f"{batch.done:,} of {batch.total:,} ended, {batch.failed:,} failed")
    grid.add_row("tokens", f"{batch.input_tokens:,} in, {batch.output_tokens:,} out")
    grid.add_row("cost", dollars(batch.cost))
    grid.add_row("429s", f"{batch.throttled:,}")
    grid.add_row("submitted", when(batch.created))
    grid.add_row("ended" if batch.over else "deadline", when(batch.ended if batch.over else batch.deadline))
    if batch.trouble:
        grid.add_row("trouble", f"[red]{escape(batch.trouble)}[/]")
    console.print(grid)


def findings(found: "list[Finding]") -> None:
    """What a check found, a line each."""
    marks = {"ok": "[green]✓[/]", "warn": "[yellow]![/]", "error": "[red]✗[/]"}
    for finding in found:
        console.print(f"{marks[finding.state]} {escape(finding.subject)}: {escape(finding.words)}", soft_wrap=True)
        if finding.mend:
            console.print(f"    {escape(finding.mend)}", soft_wrap=True, style="dim")


def dollars(nano: int) -> str:
    """Money as people read it: cents where they matter, more digits where they would vanish."""
    usd = nano / NANO
    return f"${usd:,.2f}" if usd >= 1 or not nano else f"${usd:.6f}".rstrip("0")


def jobs(count: int) -> str:
    """A number of jobs in words."""
    return f"{count:,} job{'s' if count != 1 else ''}"


def when(seconds: float) -> str:
    """A moment in UTC, to the minute."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M UTC") if seconds else "none"
