"""A pilot on the command line: waits for it, shows it, and goes on or not."""

import signal
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass

import redis
import typer
from rich.table import Table

from limits.budget import NANO
from limits.errors import ServerUnavailable
from tasks.batches.batch import Batch
from tasks.batches.pilot_feed import go_on, is_answered
from tasks.batches.projection import Projection, projection
from tasks.batches.store import Store
from tasks.console.session import existing
from tasks.console.view import console, escape, say
from workers.figures import dollars, duration


@dataclass(frozen=True, slots=True)
class Terms:
    """On what terms a batch goes on after its pilot. `most_invalid`: the largest share of invalid lines."""

    yes: bool = False
    most_invalid: float | None = None
    most_usd: float | None = None

    def broken(self, found: Projection) -> str:
        """Which of them the pilot has broken, in words; '' for none."""
        if self.most_invalid is not None and found.share > self.most_invalid:
            return f"{found.share:.1%} of its lines are invalid, more than {self.most_invalid:.1%}"
        if self.most_usd is not None and found.cost > self.most_usd * NANO:
            return f"the batch would cost {dollars(found.cost)}, more than {dollars(round(self.most_usd * NANO))}"
        return ""

    @property
    def stated(self) -> bool:
        """Whether the user has stated any."""
        return self.yes or self.most_invalid is not None or self.most_usd is not None


def goes_on(
    store: Store,
    batch: Batch,
    terms: Terms,
    watch: Callable[..., Batch],
    interrupted: Callable[[], bool] = lambda: False,
    *,
    slots: int = 0,
) -> bool:
    """Wait for the pilot of a batch and show it. Returns whether the rest may follow; then it does.

    `watch` is `session.watched` for this batch, and `slots` how many calls its workers make at a time, 0 if unknown. If
    the batch has ended or the user has interrupted, there is nothing to decide, and the answer is yes.
    """
    batch = watch(until=_either(interrupted, lambda: is_answered(store, existing(store, batch.id))))
    if batch.over or not batch.in_pilot or interrupted():
        return True
    found = projection(existing(store, batch.id), slots)
    show(batch, found)
    if broken := terms.broken(found):
        say(f"Stopped after its pilot: {broken}.")
    elif terms.stated or _asked(f"Go on with the other {found.lines - found.answered:,} lines?"):
        go_on(store, batch)
        return True
    say(f"{batch.id} stays as it is, with the answers of its pilot, until its deadline.")
    say(f"To go on: overnight resume {batch.id}, or the same command with --yes.")
    say(f"To end it: overnight cancel {batch.id}")
    return False


def _either(interrupted: Callable[[], bool], answered: Callable[[], bool]) -> Callable[[], bool]:
    def until() -> bool:
        try:
            return interrupted() or answered()
        except (ServerUnavailable, redis.RedisError):
            return False  # `watched` waits for the server

    return until


def _asked(words: str) -> bool:
    """Ask on the terminal; no if there is none, or on Ctrl-C."""
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        return False
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        return typer.confirm(words, err=True)
    except (typer.Abort, KeyboardInterrupt):
        return False
    finally:
        signal.signal(signal.SIGINT, before)


def show(batch: Batch, found: Projection) -> None:
    """What the pilot says of the whole batch."""
    grid = Table.grid(padding=(0, 2))
    grid.add_row("pilot", f"{found.answered:,} of {found.lines:,} lines, for {dollars(found.spent)}")
    reasons = ", ".join(f"{count:,} {escape(reason)}" for reason, count in found.invalid.most_common())
    low, high = found.shares()
    words = f"{found.share:.1%} ({low:.1%} to {high:.1%} of all lines)" + (f": {reasons}" if reasons else "")
    grid.add_row("invalid", f"[yellow]{words}[/]" if reasons else words)
    between = f", between {dollars(found.lowest)} and {dollars(found.highest)}" if found.highest > found.lowest else ""
    lanes = batch.has_batch_lane or batch.has_flex_lane
    live = " at the live price" if lanes else ""
    grid.add_row("cost", f"about {dollars(found.cost)} for the whole batch{live}{between}")
    words = f"about {duration(found.seconds)} for the rest" if found.seconds else "no limit applies"
    if found.seconds > batch.deadline - time.time():
        words = f"[yellow]{words}, longer than until its deadline[/]"
    grid.add_row("time", words + (", if all of it is called live" if lanes and found.seconds else ""))
    console.print(grid)
