"""What all views share: messages to stderr, JSON to stdout, tables, moments."""

import os
import re
import sys
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import orjson
from rich.console import Console
from rich.markup import escape as without_markup
from rich.measure import Measurement
from rich.table import Table

if TYPE_CHECKING:
    from tasks.console.check import Finding


def silence() -> None:
    """Send all further output to /dev/null: the terminal is gone, and writing to it would fail."""
    nowhere = os.open(os.devnull, os.O_RDWR)
    for stream in (sys.stdin, sys.stdout, sys.stderr):
        os.dup2(nowhere, stream.fileno())
    os.close(nowhere)


class Terminal(Console):
    """Standard error. `optional`: if it goes away, the command continues without it."""

    optional = False

    def on_broken_pipe(self) -> None:
        if not self.optional:
            super().on_broken_pipe()
        silence()


console = Terminal(stderr=True, highlight=False)

#: The most characters a table may be wide.
WIDEST = 1000

#: C0 and C1 characters, which control a terminal, and halves of surrogate pairs, which no encoder accepts.
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]")


def escape(text: str) -> str:
    """Make foreign text (an answer, a name) safe for a terminal: one line, no markup, no escape sequences."""
    return without_markup(_CONTROL.sub("\N{REPLACEMENT CHARACTER}", text))


def say(words: str) -> None:
    """Print a message to stderr."""
    console.print(escape(words), soft_wrap=True)


def listing(rows: Table, out: Console = console) -> None:
    """Print a table as wide as its content: an id that the terminal wraps can be read, one that is cut off can't."""
    needed = Measurement.get(out, out.options.update(max_width=WIDEST), rows).maximum
    Console(file=out.file, highlight=False, width=max(out.width, needed)).print(rows, soft_wrap=True)


def error(words: str) -> None:
    """Print what is wrong, one problem a line."""
    for line in words.split("\n"):
        console.print(f"[red]✗[/] {escape(line)}", soft_wrap=True)


def findings(found: "list[Finding]") -> None:
    """Print what a check found, one finding a line, and below it how to fix it."""
    marks = {"ok": "[green]✓[/]", "warn": "[yellow]![/]", "error": "[red]✗[/]"}
    for finding in found:
        console.print(f"{marks[finding.state]} {escape(finding.subject)}: {escape(finding.words)}", soft_wrap=True)
        if finding.fix:
            console.print(f"    {escape(finding.fix)}", soft_wrap=True, style="dim")


def jobs(count: int) -> str:
    """`count` with the word: 1 job, 2 jobs."""
    return f"{count:,} job{'s' if count != 1 else ''}"


def when(seconds: float) -> str:
    """A moment in UTC, to the minute."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M UTC") if seconds else "none"


#: Characters that control a terminal, and that JSON allows unescaped.
_C1 = re.compile(r"[\x7f-\x9f]")


def print_json(value: Any) -> None:
    """Print a command's data for another program."""
    text = orjson.dumps(value, option=orjson.OPT_INDENT_2).decode()
    print(_C1.sub(lambda found: f"\\u{ord(found[0]):04x}", text))  # noqa: T201 - the command's data
