"""Options and arguments that several commands share."""

from contextlib import suppress
from pathlib import Path
from typing import Annotated

import typer

from tasks.batches.pilot import LARGEST
from workers.config import fields


def lanes_option(value: str) -> str:
    """Check the value of --lanes."""
    try:
        lanes_of(value)
    except ValueError as exc:
        raise typer.BadParameter(str(exc)) from None
    return value


def lanes_of(value: str) -> tuple[str, ...] | None:
    """The lanes that --lanes names; None without it."""
    return fields.lanes(value) if value else None


def percent_option(value: str) -> str:
    """Check the value of --max-invalid."""
    try:
        share_of(value)
    except ValueError as exc:
        raise typer.BadParameter(str(exc)) from None
    return value


def share_of(value: str) -> float | None:
    """The share that --max-invalid names; None without it."""
    if not value:
        return None
    with suppress(ValueError):
        share = float(value.removesuffix("%")) / 100
        if 0 <= share <= 1:
            return share
    raise ValueError(f"{value} is no percentage: write 5% or 0.5%")


Config = Annotated[
    Path | None,
    typer.Option("--config", help="The configuration file; by default $OVERNIGHT_CONFIG, else ./overnight.toml."),
]
Source = Annotated[
    str,
    typer.Argument(
        metavar="IN.jsonl", help="The jobs in OpenAI's batch format: a file, a pipe, a URL, or - for stdin."
    ),
]
Workflow = Annotated[str, typer.Option("--workflow", "-w", help="The workflow of the jobs.")]
Lanes = Annotated[
    str,
    typer.Option(
        "--lanes",
        metavar="LANES",
        callback=lanes_option,
        help="What may carry the jobs, such as batch,live; auto is all. By default the workflow's lanes.",
    ),
]
Dedupe = Annotated[
    bool | None,
    typer.Option(
        "--dedupe/--no-dedupe",
        help="Ask equal lines once, and give the others the same answer. By default as the workflow says.",
        show_default=False,
    ),
]
Pilot = Annotated[
    int,
    typer.Option(
        min=0,
        max=LARGEST,
        help="Answer this many random lines first, and show what the whole batch would take before going on.",
        show_default=False,
    ),
]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Go on after the pilot without asking.")]
MaxInvalid = Annotated[
    str,
    typer.Option(
        metavar="PERCENT",
        callback=percent_option,
        help="Go on after the pilot unless more of its lines than this are invalid, such as 5%.",
    ),
]
MaxUsd = Annotated[
    float | None,
    typer.Option(min=0, help="Go on after the pilot unless the whole batch would cost more than this."),
]
BatchId = Annotated[str, typer.Argument(metavar="BATCH", help="A batch id, as `overnight submit` printed it.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
