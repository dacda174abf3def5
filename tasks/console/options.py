"""Options and arguments that several commands share."""

from pathlib import Path
from typing import Annotated

import typer

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


Config = Annotated[
    Path | None,
    typer.Option("--config", help="The configuration file; by default $OVERNIGHT_CONFIG, else ./overnight.toml."),
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
BatchId = Annotated[str, typer.Argument(metavar="BATCH", help="A batch id, as `overnight submit` printed it.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
