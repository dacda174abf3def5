"""`overnight submit`, `estimate`, `status`, `wait`, `results`, `cancel`, `retry`, `clean`: a batch's life."""

import time
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from limits.budget import NANO
from limits.errors import ServerUnavailable
from tasks.batches import lane_report
from tasks.batches.batch import Batch
from tasks.batches.chunk import Chunk
from tasks.batches.chunk_journal import ChunkJournal
from tasks.batches.outputs import Outputs
from tasks.batches.sources import rereadable
from tasks.batches.store import open_store
from tasks.console import batches_view, view
from tasks.console.exit_status import AFTER_PILOT, errors_reported, fail, outcome
from tasks.console.options import (
    BatchId,
    Config,
    Dedupe,
    Json,
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
from tasks.console.session import blocker_and_lower_limits, configured, existing, submitted, watched
from tasks.console.view import print_json
from tasks.monitoring import costs

#: Seconds of a day.
_DAY = 86_400.0


def submit(
    source: Source,
    workflow: Workflow = "default",
    wait_for: Annotated[bool, typer.Option("--wait", help="Wait until the batch has ended.")] = False,
    new: Annotated[
        bool, typer.Option("--new", help="Make a new batch, even if this file was submitted before.")
    ] = False,
    lanes: Lanes = "",
    dedupe: Dedupe = None,
    pilot: Pilot = 0,
    yes: Yes = False,
    max_invalid: MaxInvalid = "",
    max_usd: MaxUsd = None,
    config: Config = None,
) -> None:
    """Check a file, submit it as a batch, and print the batch's id."""
    with errors_reported():
        settings = configured(config)
        store = open_store(settings)
        with rereadable(source, settings.data_dir) as given:
            batch, fresh = submitted(
                given, settings, store, workflow, new=new, lanes=lanes_of(lanes), dedupe=dedupe, pilot=pilot
            )
        print(batch.id, flush=True)  # noqa: T201 - only the id, for scripts
        batches_view.begun(batch, fresh)
        if batch.in_pilot and not batch.over:
            terms = Terms(yes, share_of(max_invalid), max_usd)
            if not goes_on(store, batch, terms, partial(watched, settings, store, batch.id)):
                raise typer.Exit(AFTER_PILOT)
        if wait_for:
            raise typer.Exit(outcome(watched(settings, store, batch.id)))


def estimate(
    source: Source,
    workflow: Workflow = "default",
    lanes: Lanes = "",
    dedupe: Dedupe = None,
    as_json: Json = False,
    config: Config = None,
) -> None:
    """Estimate a file's tokens, cost and time within the limits. Sends nothing."""
    from tasks.batches.budget_outlook import outlook  # noqa: PLC0415 - only this command needs it
    from tasks.batches.cache_outlook import cache_outlook  # noqa: PLC0415
    from tasks.batches.submit import check_and_tally, duplicates_of  # noqa: PLC0415

    with errors_reported():
        settings = configured(config)
        store = open_store(settings)
        with (
            rereadable(source, settings.data_dir) as given,
            duplicates_of(settings, workflow, dedupe) as duplicates,
        ):
            _, tally = check_and_tally(
                given, settings, store, workflow=workflow, lanes=lanes_of(lanes), duplicates=duplicates
            )
        found = tally.forecast()
        notes = [*outlook(settings, store, workflow, found), *cache_outlook(tally)]
        if found.agents:
            notes.append(f"{view.jobs(found.agents)} of agents are not included: their calls are not known in advance")
        print_json({**found.shown(), "notes": notes}) if as_json else batches_view.forecast(given.shown, found, notes)


def status(
    batch: Annotated[
        str | None, typer.Argument(metavar="[BATCH]", help="A batch id; without one, all batches are listed.")
    ] = None,
    as_json: Json = False,
    config: Config = None,
) -> None:
    """Show a batch's progress and what it waits for; without a batch, list all of them."""
    with errors_reported():
        settings = configured(config)
        store = open_store(settings)
        if batch is None:
            found = store.batches()
            print_json([one.shown() for one in found]) if as_json else batches_view.table(found)
            return
        one = existing(store, batch)
        chunks = ChunkJournal(store, one.id).all() if one.has_batch_lane else []
        waits, lower_limits = blocker_and_lower_limits(settings, store, one)
        in_flight = len(store.leased(one.id))
        spent = costs.Spent()
        with suppress(ServerUnavailable):  # show the rest without the ledger
            spent = costs.of_batch(store.server, store.keys, one)
        presumed = costs.presumed(spent, one)
        if as_json:
            print_json(
                {
                    **_shown(one, chunks, spent),
                    "presumed_usd": presumed / NANO,
                    "in_flight": in_flight,
                    "waits_for": waits or None,
                    "lower_limits": lower_limits,
                }
            )
        else:
            batches_view.one(one, waits, in_flight, presumed, lower_limits, chunks, spent)


def _shown(batch: Batch, chunks: list[Chunk], spent: costs.Spent) -> dict[str, Any]:
    """A batch with its lanes and pace, as JSON."""
    rate = None if batch.over else batch.rate(time.time())
    return {
        **batch.shown(),
        "lanes": lane_report.report(batch, chunks, spent.flex_calls, spent.flex_saved).shown(batch),
        "chunks": [chunk.shown() for chunk in chunks],
        "prompt_cache": spent.prompt_cache(),
        "jobs_per_s": rate,
        "seconds_left": batch.left / rate if rate else None,
    }


def wait(batch: BatchId, config: Config = None) -> None:
    """Wait until a batch has ended."""
    with errors_reported():
        settings = configured(config)
        store = open_store(settings)
        existing(store, batch)
        raise typer.Exit(outcome(watched(settings, store, batch)))


def results(
    batch: BatchId,
    output: Annotated[Path, typer.Option("--output", "-o", help="The file for the answers; - for stdout.")],
    errors: Annotated[Path | None, typer.Option(help="The file for the failures.")] = None,
    partial_: Annotated[
        bool, typer.Option("--partial", help="Of a batch that still runs: what it has written so far.")
    ] = False,
    config: Config = None,
) -> None:
    """Write a batch's answers and failures to files."""
    with errors_reported():
        outputs = Outputs(output, errors)
        outputs.check()
        found = existing(open_store(configured(config)), batch)
        if not found.over:
            if not partial_:
                waits = f"wait until it has ended (overnight wait {batch}), or take what is there with --partial"
                fail(f"{batch} is {found.shown_status}: {waits}")
            outputs.fetch_so_far(found)
            view.say(f"{batch} still runs: {found.done:,} of {view.jobs(found.total)} have ended")
            return
        outputs.fetch(found)
    raise typer.Exit(outcome(found))


def cancel(batch: BatchId, config: Config = None) -> None:
    """Cancel a batch: no further job starts, and calls in flight finish."""
    with errors_reported():
        store = open_store(configured(config))
        found = existing(store, batch)
        if found.over:
            fail(f"{batch} has already ended: {found.status}")
        found = store.stop(found, "cancelled")
        if found.stopping != "cancelled":
            fail(f"{batch} is {found.shown_status}: it is about to end")
        view.say(f"{batch} is being cancelled; calls in flight finish. Watch it: overnight status {batch}")


def retry(batch: BatchId, config: Config = None) -> None:
    """Run failed, cancelled and expired jobs again, as part of the same batch."""
    with errors_reported():
        settings = configured(config)
        store = open_store(settings)
        found = existing(store, batch)
        if not found.over:
            fail(f"{batch} is {found.shown_status}: wait until it has ended (overnight wait {batch}), then retry")
        count = store.retry(found, time.time() + settings.workflow(found.workflow).deadline)
        if count is None:
            fail(f"{batch} has changed in the meantime; see overnight status {batch}")
        if not count:
            view.say(f"{batch}: no job has failed")
            return
        batches_view.retried(existing(store, batch), count)


def clean(
    older_than: Annotated[
        float, typer.Option(min=0, help="Only batches that ended more than this many days ago.")
    ] = 30.0,
    left_over: Annotated[
        bool, typer.Option("--left-over", help="Also delete folders in the storage that have no record here.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show what would be deleted.")] = False,
    config: Config = None,
) -> None:
    """Delete old batches: their records and files."""
    from tasks.batches.prune import clean as remove  # noqa: PLC0415 - only this command needs it

    with errors_reported():
        settings = configured(config)
        found = remove(
            settings, open_store(settings), older_than=older_than * _DAY, left_over=left_over, dry_run=dry_run
        )
        batches_view.cleaned(found, dry_run=dry_run, left_over=left_over)
