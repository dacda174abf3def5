"""How a batch comes along, as a person watches it: a bar where there is a terminal, nothing where there is none."""

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

#: Seconds over which the rate is measured, and between two looks at what a batch waits for.
RATE_OVER, LOOK_EVERY = 20.0, 2.0

#: What a batch waits for, in words.
WaitsFor = Callable[[Batch], str]


class Bar(Protocol):
    """What shows a batch's progress."""

    def update(self, batch: Batch) -> None:
        """Show where the batch is now."""

    def say(self, words: str) -> None:
        """Show what else there is to say of it just now; '' for nothing."""


class _Silent:
    """No terminal: no bar."""

    def update(self, batch: Batch) -> None:
        """Show nothing."""

    def say(self, words: str) -> None:
        """Say nothing."""


class _Rich:
    """A bar with what a person asks about: how many, how fast, how long, how much, and why not faster."""

    def __init__(self, bar: Progress, waits_for: WaitsFor) -> None:
        self.bar = bar
        self.waits_for = waits_for
        self.throughput = Throughput(RATE_OVER)
        self.task: TaskID | None = None
        self.looked = 0.0
        self.waits = ""
        self.words = ""

    def update(self, batch: Batch) -> None:
        """Show where the batch is now."""
        if self.task is None:
            self.task = self.bar.add_task("", total=batch.total, story="")
        if time.monotonic() - self.looked > LOOK_EVERY:
            self.waits = self.waits_for(batch)
            self.looked = time.monotonic()
        self.throughput.read(batch.id, batch.done, time.monotonic())
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
        story = " · ".join(facts)
        for words in (self.words, batch.trouble, f"waits for {self.waits}" if self.waits else ""):
            if words:
                story += f"\n[yellow]{escape(words)}[/]"
        name = batch.shown_status.replace("_", " ")
        self.bar.update(self.task, completed=batch.done, total=batch.total, description=name, story=story)

    def say(self, words: str) -> None:
        """Show it in a line of its own."""
        self.words = words


@contextmanager
def progress(waits_for: WaitsFor) -> Iterator[Bar]:
    """A progress bar on stderr, or none where stderr is no terminal."""
    if not sys.stderr.isatty():
        yield _Silent()
        return
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[story]}"))
    with Progress(*columns, console=console, transient=True) as bar:
        yield _Rich(bar, waits_for)
