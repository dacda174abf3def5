"""The progress bar of a batch, on a terminal only."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Protocol

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn

from tasks.batches.batch import Batch
from tasks.console.view import console, escape
from tasks.monitoring.throughput import Throughput
from workers.figures import dollars, duration

#: Seconds over which the rate is measured.
RATE_OVER = 20.0

#: Seconds between two readings of what a batch waits for.
LOOK_EVERY = 2.0

#: Returns what a batch waits for, in words.
WaitsFor = Callable[[Batch], str]


class Bar(Protocol):
    """Shows a batch's progress."""

    def update(self, batch: Batch) -> None:
        """Show the batch as it is now."""

    def say(self, words: str) -> None:
        """Show one more message below the bar; '' for none."""


class _Silent:
    """Shows nothing: stderr is not a terminal."""

    def update(self, batch: Batch) -> None:
        """Do nothing."""

    def say(self, words: str) -> None:
        """Do nothing."""


class _Rich:
    """A bar with jobs done, rate, time left, cost, and what the batch waits for."""

    def __init__(self, bar: Progress, waits_for: WaitsFor) -> None:
        self.bar = bar
        self.waits_for = waits_for
        self.throughput = Throughput(RATE_OVER)
        self.task: TaskID | None = None
        self.looked = 0.0
        self.waits = ""
        self.words = ""

    def update(self, batch: Batch) -> None:
        """Show the batch as it is now."""
        if self.task is None:
            self.task = self.bar.add_task("", total=batch.total, facts="")
        if time.monotonic() - self.looked > LOOK_EVERY:
            self.waits = self.waits_for(batch)
            self.looked = time.monotonic()
        self.throughput.record(batch.id, batch.done, time.monotonic())
        rate = self.throughput.per_second(batch.id)
        facts = [dollars(batch.cost)]
        if rate is not None:
            facts.insert(0, f"{rate:,.0f}/s" if rate >= 10 else f"{rate:.1f}/s")  # noqa: PLR2004 - two digits
        if rate:
            facts.insert(1, f"{duration(batch.left / rate)} left")
        if batch.failed:
            facts.append(f"{batch.failed:,} failed")
        if batch.throttled:
            facts.append(f"{batch.throttled:,} x 429")
        words = " · ".join(facts)
        for line in (self.words, batch.trouble, f"waits for {self.waits}" if self.waits else ""):
            if line:
                words += f"\n[yellow]{escape(line)}[/]"
        name = batch.shown_status.replace("_", " ")
        self.bar.update(self.task, completed=batch.done, total=batch.total, description=name, facts=words)

    def say(self, words: str) -> None:
        """Show a message in a line of its own."""
        self.words = words


@contextmanager
def progress(waits_for: WaitsFor) -> Iterator[Bar]:
    """A progress bar on stderr; it shows nothing if stderr is not a terminal."""
    if not sys.stderr.isatty():
        yield _Silent()
        return
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[facts]}"))
    with Progress(*columns, console=console, transient=True) as bar:
        yield _Rich(bar, waits_for)
