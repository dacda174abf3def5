"""`overnight run`, `submit`, `status`, `wait`, `results`, `cancel`: a batch from its file to its results."""

import time
from pathlib import Path
from typing import Annotated

import typer

from tasks import show
from tasks.console import (
    INTERRUPTED,
    BatchId,
    Config,
    Json,
    Workflow,
    configured,
    existing,
    fail,
    fetch,
    outcome,
    print_json,
    submitted,
    told,
    watched,
)
from tasks.store import open_store


def run(
    source: Annotated[Path, typer.Argument(metavar="IN.jsonl", help="The jobs, in OpenAI's batch format.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Where the answers go.")],
    workflow: Workflow = "default",
    workers: Annotated[int, typer.Option(min=1, max=64, help="Worker processes.")] = 2,
    concurrency: Annotated[
        int, typer.Option("--concurrency", "-c", min=1, help="Calls in flight in each process, at most.")
    ] = 100,
    errors: Annotated[Path | None, typer.Option(help="Where failures go; else beside the output.")] = None,
    config: Config = None,
) -> None:
    """One machine, one command: server, workers, submit, progress, results, stop.

    Run again after an interruption, it goes on, and pays for nothing twice.
    """
    from tasks import local  # noqa: PLC0415 - what only this command needs

    started = time.monotonic()
    with told():
        settings = configured(config, keys=True)
        errors = errors or output.with_name(f"{output.stem}.errors{output.suffix}")
        store = open_store(settings)
        batch, new = submitted(source, settings, store, workflow, new=False)
        show.begun(batch, new)
        if not batch.over:
            try:
                with local.workers(settings, workers, concurrency) as group:
                    batch = watched(store, batch.id, on_poll=group.check)
            except KeyboardInterrupt:
                show.interrupted(store.batch(batch.id) or batch)
                raise typer.Exit(INTERRUPTED) from None
        fetch(batch, output, errors)
        show.ended(batch, output, errors, seconds=time.monotonic() - started)
    raise typer.Exit(outcome(batch))


def submit(
    source: Annotated[Path, typer.Argument(metavar="IN.jsonl", help="The jobs, in OpenAI's batch format.")],
    workflow: Workflow = "default",
    wait_for: Annotated[bool, typer.Option("--wait", help="Wait until the batch has ended.")] = False,
    new: Annotated[bool, typer.Option("--new", help="A batch of its own, even if this file was one before.")] = False,
    config: Config = None,
) -> None:
    """Check a file, make it a batch, and print the batch's id."""
    with told():
        settings = configured(config)
        store = open_store(settings)
        batch, fresh = submitted(source, settings, store, workflow, new=new)
        print(batch.id)  # noqa: T201 - the id alone, for a script to take
        show.begun(batch, fresh)
        if wait_for:
            raise typer.Exit(outcome(watched(store, batch.id)))


def status(
    batch: Annotated[str | None, typer.Argument(metavar="[BATCH]", help="A batch id; none lists them.")] = None,
    as_json: Json = False,
    config: Config = None,
) -> None:
    """How far a batch has come; without a batch, how far each has."""
    with told():
        store = open_store(configured(config))
        if batch is None:
            found = store.batches()
            print_json([one.shown() for one in found]) if as_json else show.table(found)
            return
        one = existing(store, batch)
        print_json(one.shown()) if as_json else show.one(one)


def wait(batch: BatchId, config: Config = None) -> None:
    """Wait until a batch has ended."""
    with told():
        store = open_store(configured(config))
        existing(store, batch)
        raise typer.Exit(outcome(watched(store, batch)))


def results(
    batch: BatchId,
    output: Annotated[Path, typer.Option("--output", "-o", help="Where the answers go.")],
    errors: Annotated[Path | None, typer.Option(help="Where the failures go.")] = None,
    config: Config = None,
) -> None:
    """Write a batch's answers, and its failures, to files of yours."""
    with told():
        found = existing(open_store(configured(config)), batch)
        if not found.over:
            fail(f"{batch} is {found.status}: its results are there when it has ended (overnight wait {batch})")
        fetch(found, output, errors)
    raise typer.Exit(outcome(found))


def cancel(batch: BatchId, config: Config = None) -> None:
    """Stop what has not begun; what is being paid for finishes."""
    with told():
        store = open_store(configured(config))
        found = existing(store, batch)
        if found.over:
            fail(f"{batch} has ended already: {found.status}")
        store.stop(batch, "cancelled")
        show.say(f"{batch} is being cancelled; calls in flight finish. Watch it: overnight status {batch}")
