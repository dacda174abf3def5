"""What a person sees, on stderr: words that all topics share."""

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

console = Console(stderr=True, highlight=False)

#: The widest that a table may become, in characters.
WIDEST = 1000


#: C0 and C1 characters, with which a terminal is controlled, and halves of surrogate pairs, which nothing can write.
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]")


def escape(text: str) -> str:
    """Text from elsewhere, an answer or a name, as it may go to a terminal: one line, no markup, no escape sequence."""
    return without_markup(_CONTROL.sub("\N{REPLACEMENT CHARACTER}", text))


def say(words: str) -> None:
    """A line for a person."""
    console.print(escape(words), soft_wrap=True)


def listing(rows: Table, out: Console = console) -> None:
    """A table as wide as what it holds: wrapped by the terminal an id can still be read, cut off it is lost."""
    needed = Measurement.get(out, out.options.update(max_width=WIDEST), rows).maximum
    Console(file=out.file, highlight=False, width=max(out.width, needed)).print(rows, soft_wrap=True)


def error(words: str) -> None:
    """What is wrong, a line each."""
    for line in words.split("\n"):
        console.print(f"[red]✗[/] {escape(line)}", soft_wrap=True)


def findings(found: "list[Finding]") -> None:
    """What a check found, a line each."""
    marks = {"ok": "[green]✓[/]", "warn": "[yellow]![/]", "error": "[red]✗[/]"}
    for finding in found:
        console.print(f"{marks[finding.state]} {escape(finding.subject)}: {escape(finding.words)}", soft_wrap=True)
        if finding.mend:
            console.print(f"    {escape(finding.mend)}", soft_wrap=True, style="dim")


def jobs(count: int) -> str:
    """A number of jobs in words."""
    return f"{count:,} job{'s' if count != 1 else ''}"


def when(seconds: float) -> str:
    """A moment in UTC, to the minute."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M UTC") if seconds else "none"


def silence() -> None:
    """Say nothing more: the terminal is gone, and writing to it would be an error."""
    nowhere = os.open(os.devnull, os.O_RDWR)
    for stream in (sys.stdin, sys.stdout, sys.stderr):
        os.dup2(nowhere, stream.fileno())
    os.close(nowhere)


#: Characters that control a terminal and that JSON does not have to escape.
_C1 = re.compile(r"[\x7f-\x9f]")


def print_json(value: Any) -> None:
    """The data of a command, for another program."""
    text = orjson.dumps(value, option=orjson.OPT_INDENT_2).decode()
    print(_C1.sub(lambda found: f"\\u{ord(found[0]):04x}", text))  # noqa: T201 - the command's data
