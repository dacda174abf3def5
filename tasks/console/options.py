"""Options and arguments that several commands share."""

from pathlib import Path
from typing import Annotated

import typer

Config = Annotated[
    Path | None,
    typer.Option("--config", help="The configuration file; by default $OVERNIGHT_CONFIG, else ./overnight.toml."),
]
Workflow = Annotated[str, typer.Option("--workflow", "-w", help="The workflow of the jobs.")]
BatchId = Annotated[str, typer.Argument(metavar="BATCH", help="A batch id, as `overnight submit` printed it.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
