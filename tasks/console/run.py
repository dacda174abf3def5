"""`overnight run`: a batch on this machine, from its input to its output."""

import math
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tasks.batches.batch import Batch
from tasks.batches.outputs import Outputs
from tasks.batches.sources import rereadable
from tasks.batches.store import Store, open_store
from tasks.console import batches_view
from tasks.console.exit_status import AFTER_PILOT, INTERRUPTED, errors_reported, outcome
from tasks.console.options import (
    Config,
    Dedupe,
    Lanes,
    MaxInvalid,
    MaxUsd,
    Pilot,
    Source,
    Workflow,
    Yes,
    lanes_of,
    share_of,
)
from tasks.console.pilot import Terms, goes_on
from tasks.console.session import PATIENCE, configured, existing, submitted, watched
from workers.config.settings import Settings

if TYPE_CHECKING:
    from tasks.console.local_workers import Interrupts


Output = Annotated[Path, typer.Option("--output", "-o", help="The file for the answers; - for stdout.")]
Errors = Annotated[
    Path | None, typer.Option(help="The file for failures; by default beside the output, if that is a file.")
]
Workers = Annotated[int, typer.Option(min=1, max=64, help="Worker processes.")]
Concurrency = Annotated[
    int, typer.Option("--concurrency", "-c", min=1, help="The most calls in flight in each process.")
]


def run(
    source: Source,
    output: Output,
    workflow: Workflow = "default",
    workers: Workers = 2,
    concurrency: Concurrency = 100,
    errors: Errors = None,
    lanes: Lanes = "",
    dedupe: Dedupe = None,
    pilot: Pilot = 0,
    yes: Yes = False,
    max_invalid: MaxInvalid = "",
    max_usd: MaxUsd = None,
    config: Config = None,
) -> None:
    """Run a batch on this machine: start workers, submit, show progress, write the results, stop.

    After an interruption, the same command resumes where it stopped.
    """
    from tasks.console.local_workers import Interrupts  # noqa: PLC0415 - only this command needs it

    started = time.monotonic()
    with errors_reported():
        settings = configured(config, keys=True)
        outputs = Outputs.beside(output, errors)
        outputs.check(source)
        with rereadable(source, settings.data_dir) as given, Interrupts() as interrupts:
            store, terms = open_store(settings), Terms(yes, share_of(max_invalid), max_usd)
            batch, new = submitted(
                given, settings, store, workflow, new=False, lanes=lanes_of(lanes), dedupe=dedupe, pilot=pilot
            )
            batches_view.begun(batch, new)
            if not batch.over:
                batch = _worked(settings, store, batch, terms, (workers, concurrency), interrupts)
            outputs.fetch(batch)
            batches_view.ended(batch, outputs, seconds=time.monotonic() - started)
    raise typer.Exit(outcome(batch))


def _worked(
    settings: Settings, store: Store, batch: Batch, terms: Terms, pool: tuple[int, int], interrupts: "Interrupts"
) -> Batch:
    """Run `pool` (processes, calls in flight in each) until the batch has ended; ends the command if it has not."""
    from tasks.console import local_workers  # noqa: PLC0415

    with local_workers.workers(settings, *pool, interrupts.asked_again) as group:
        # The embedded server is restarted however long that takes, since the workers have answers that are paid for.
        patience = PATIENCE if settings.redis_url else math.inf
        watch = partial(watched, settings, store, batch.id, on_poll=group.check, patience=patience)
        slots = math.prod(pool)
        if batch.in_pilot and not goes_on(store, batch, terms, watch, interrupts.asked, slots=slots):
            raise typer.Exit(AFTER_PILOT)
        last = watch(until=interrupts.asked)
        if not last.over:
            batches_view.stopping(len(store.leased(batch.id)))
    batch = existing(store, batch.id)
    if not batch.over:
        batches_view.stopped(batch, interrupts.asked_again())
        raise typer.Exit(INTERRUPTED)
    return batch
