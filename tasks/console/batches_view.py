"""How batches look: one, all of them, their summaries and estimates."""

import time
from collections.abc import Sequence

import orjson
from rich.table import Table

from tasks.batches.batch import Batch
from tasks.batches.chunk import Chunk
from tasks.batches.collect import sample
from tasks.batches.estimate import Forecast, estimate_errors
from tasks.batches.outputs import Outputs
from tasks.batches.prune import Cleaned
from tasks.console import checks_view, lanes_view
from tasks.console.view import console, escape, jobs, listing, say, when
from tasks.monitoring.costs import Spent, cache_words
from workers.figures import dollars, duration

#: Characters of an answer that a sample shows.
SAMPLE = 160


def begun(batch: Batch, new: bool) -> None:
    """A batch was submitted, or had been submitted before."""
    if new:
        say(f"{batch.id}: {jobs(batch.total)} for workflow {batch.workflow}")
        if batch.copies:
            say(f"{batch.copies:,} of them repeat an earlier line: asked once, and its answer is theirs, too")
        if batch.pilot:
            say(f"Its pilot comes first: {jobs(batch.pilot)} that are picked at random")
        if batch.lanes:
            say(lanes_view.submitted(batch))
    elif batch.over:
        say(f"{batch.id}: already submitted ({batch.status}); no call is repeated")
    else:
        say(f"{batch.id}: already submitted; resuming at {batch.done:,} of {jobs(batch.total)}")


def stopping(flight: int) -> None:
    """The user asked to stop."""
    calls = f"{flight:,} call{'s' if flight != 1 else ''} in flight" if flight else "calls in flight"
    say(f"Stopping: {calls} will finish, since they are paid for. Press Ctrl-C again to stop at once.")


def stopped(batch: Batch, hard: bool) -> None:
    """The command has stopped."""
    say(f"Stopped at {batch.done:,} of {jobs(batch.total)}. Finished jobs are kept; the same command resumes.")
    if hard:
        say("Calls that were cut off may have been billed: they count as spent, and will be made again.")


def ended(batch: Batch, outputs: Outputs, *, seconds: float) -> None:
    """The summary of a run, and a few of its answers."""
    grid = Table.grid(padding=(0, 2))
    grid.add_row("jobs", f"{batch.completed:,} succeeded, {batch.failed:,} failed")
    grid.add_row("tokens", f"{batch.input_tokens:,} in, {batch.output_tokens:,} out")
    grid.add_row("cost", dollars(batch.cost))
    grid.add_row("calls", f"{batch.calls:,}, {batch.throttled:,} of them throttled (429)")
    checks_view.rows(grid, batch)
    grid.add_row("seconds", f"{seconds:.1f}")
    grid.add_row("output", escape(str(outputs.answers)))
    if batch.failed:
        command = f"overnight results {batch.id} -o … --errors FILE"
        grid.add_row("errors", escape(str(outputs.failures or command)))
    console.print(grid)
    for line in sample(batch, 3):
        console.print(f"  [dim]{escape(str(line['custom_id']))}[/]  {escape(answer_text(line))}", soft_wrap=True)
    if batch.failed:
        say(f"To run failed jobs again: overnight retry {batch.id}, then the same command.")


def retried(batch: Batch, count: int) -> None:
    """Failed jobs run again."""
    say(f"{batch.id}: running {jobs(count)} again, until {when(batch.deadline)}. Watch it: overnight status {batch.id}")


def table(batches: list[Batch]) -> None:
    """All batches, newest first."""
    if not batches:
        say("no batches yet: overnight submit IN.jsonl -w WORKFLOW")
        return
    rows = Table("batch", "workflow", "status", "done", "failed", "cost", "submitted", box=None, pad_edge=False)
    for batch in batches:
        rows.add_row(
            batch.id,
            escape(batch.workflow),
            batch.shown_status + (" !" if batch.trouble else ""),
            f"{batch.done:,}/{batch.total:,}",
            f"{batch.failed:,}",
            dollars(batch.cost),
            when(batch.created),
        )
    listing(rows)


def one(
    batch: Batch,
    waits: str,
    in_flight: int,
    presumed: int = 0,
    lower_limits: Sequence[str] = (),
    chunks: Sequence[Chunk] = (),
    spent: Spent | None = None,
) -> None:
    """One batch, one fact a line. `presumed`: n$ beyond its cost, as in `costs.presumed`."""
    grid = Table.grid(padding=(0, 2))
    grid.add_row("batch", batch.id)
    grid.add_row("input", escape(batch.name))
    grid.add_row("workflow", escape(batch.workflow))
    grid.add_row("status", batch.shown_status + (f", round {batch.round + 1}" if batch.round else ""))
    grid.add_row("jobs", f"{batch.done:,} of {batch.total:,} ended, {batch.failed:,} failed")
    _pilot_and_copies(grid, batch)
    if not batch.over:
        _pace(grid, batch)
        grid.add_row("in flight", f"{in_flight:,}")
    grid.add_row("tokens", f"{batch.input_tokens:,} in, {batch.output_tokens:,} out")
    _money(grid, batch, presumed, spent or Spent())
    lanes_view.rows(grid, batch, chunks, spent or Spent())
    grid.add_row("429s", f"{batch.throttled:,} of {batch.calls:,} calls")
    checks_view.rows(grid, batch)
    if batch.expected_input:
        grid.add_row("estimate", _estimate(batch))
    grid.add_row("submitted", when(batch.created))
    grid.add_row("ended" if batch.over else "deadline", when(batch.ended if batch.over else batch.deadline))
    if waits:
        grid.add_row("waits for", f"[yellow]{escape(waits)}[/]")
    for words in lower_limits:
        grid.add_row("limit", f"[yellow]{escape(words)}[/]")
    if batch.trouble:
        grid.add_row("trouble", f"[red]{escape(batch.trouble)}[/]")
    console.print(grid)


def _pilot_and_copies(grid: Table, batch: Batch) -> None:
    if batch.in_pilot and not batch.over:
        grid.add_row("pilot", f"{jobs(batch.pilot)} first; the others wait for your go-ahead")
    if batch.copies:
        words = f"{batch.copies:,} jobs repeat another one; {batch.copies_completed:,} have its answer"
        grid.add_row("copies", words)


def _money(grid: Table, batch: Batch, presumed: int, spent: Spent) -> None:
    grid.add_row("cost", dollars(batch.cost))
    if presumed:
        words = f"up to {dollars(presumed)} more, for calls whose worker was killed before they ended"
        grid.add_row("presumed", words)
    if words := cache_words(spent):
        grid.add_row("prompt cache", words)


def _pace(grid: Table, batch: Batch) -> None:
    rate = batch.rate(time.time())
    if rate is not None:
        left = f", {duration(batch.left / rate)} left" if rate else ""
        grid.add_row("pace", f"{rate:,.1f} jobs/s{left}")


def _estimate(batch: Batch) -> str:
    """The estimate, and after the end how far it was off."""
    words = f"{batch.expected_input:,} in, {batch.expected_output:,} out"
    if batch.expected_cost:
        words += f", {dollars(batch.expected_cost)}"
    if seconds := batch.expected_lane_seconds or (0.0 if batch.lanes else batch.expected_seconds):
        words += f", {duration(seconds)}"
    if batch.status == "completed" and not batch.round:
        off = [f"{part:+.0%} {name.replace('_', ' ')}" for name, part in estimate_errors(batch).items()]
        words += f" (off by {', '.join(off)})"
    return words


def forecast(source: str, found: Forecast, notes: list[str]) -> None:
    """A file's estimated tokens, cost and time."""
    grid = Table.grid(padding=(0, 2))
    grid.add_row("input", escape(source))
    copies = f", {found.copies:,} of them repeat an earlier line and are asked once" if found.copies else ""
    grid.add_row("jobs", f"{found.lines:,}{copies}")
    if found.agents < found.lines:
        _expected(grid, found)
    for words in notes:
        grid.add_row("note", f"[yellow]{escape(words)}[/]")
    console.print(grid)


def _expected(grid: Table, found: Forecast) -> None:
    grid.add_row("tokens", f"about {found.input:,} in, {found.output:,} out")
    if found.cost is None or found.ceiling is None:
        grid.add_row("cost", f"unknown: no price for {escape(', '.join(found.unpriced))}")
    else:
        grid.add_row("cost", f"about {dollars(found.cost)}, at most {dollars(found.ceiling)}")
    if found.further:
        grid.add_row("answers", f"at most {dollars(found.further)} more, if every line asks for as many as it may have")
    if found.lanes is not None:
        grid.add_row("lanes", lanes_view.plan(found.lanes))
    if found.limit:
        ends = when(time.time() + found.seconds)
        grid.add_row(
            "time", f"{duration(found.seconds)} within {escape(found.limit)}: done at {ends} if it started now"
        )
    else:
        grid.add_row("time", "no limit applies: as fast as the provider answers")


def cleaned(found: Cleaned, *, dry_run: bool, left_over: bool) -> None:
    """What was deleted."""
    done = "would be deleted" if dry_run else "deleted"
    say(f"{len(found.batches):,} ended batches {done}, {found.kept:,} kept, {found.live:,} still running")
    if found.left_over:
        names = ", ".join(found.left_over[:3]) + (", …" if len(found.left_over) > 3 else "")  # noqa: PLR2004 - shown
        if left_over:
            say(f"{len(found.left_over):,} folders without a record {done}: {names}")
        else:
            say(f"{len(found.left_over):,} folders have no record here: {names}. To delete them: --left-over")


def answer_text(line: dict[str, object]) -> str:
    """The start of an answer, in any wire format."""
    response = line.get("response")
    body = response.get("body") if isinstance(response, dict) else None
    text = _text(body) if isinstance(body, dict) else ""
    text = " ".join(text.split())
    return text if len(text) <= SAMPLE else f"{text[: SAMPLE - 1]}…"


def _text(body: dict[str, object]) -> str:
    """The text of a chat completion, a response or a message; the size of an embedding; else the body."""
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
    return orjson.dumps(body).decode()
