"""`overnight beat` and `overnight schedules`: the process that starts scheduled runs, and what became of them."""

import os
import time
from datetime import UTC, datetime
from typing import Annotated, Any

import typer

from tasks.batches.sources import Source
from tasks.batches.store import Store, open_store
from tasks.console import schedules_view
from tasks.console.exit_status import SOME_FAILED, SUCCEEDED, errors_reported, fail
from tasks.console.options import Config, Json
from tasks.console.session import configured
from tasks.console.view import print_json
from tasks.schedules.calendar import from_name, name_of
from tasks.schedules.runs import Schedules, calendar
from workers import child_process
from workers.config.settings import Settings


def beat(context: typer.Context, config: Config = None) -> None:
    """Start scheduled runs, until stopped. Two may run: one takes over from the other. Options go to Celery's beat."""
    with errors_reported():
        configured(config)
        # Celery's beat would keep its schedule and process id in files here; ours are in Redis.
        argv = child_process.command("workers.celery_worker", "--app", "workers", "beat", "--pidfile=", *context.args)
        os.execve(argv[0], argv, child_process.environment())  # noqa: S606 - becomes the beat: signals reach it directly


def schedules(
    again: Annotated[
        str | None, typer.Option("--again", metavar="SCHEDULE", help="Repeat its last run, if that failed.")
    ] = None,
    as_json: Json = False,
    config: Config = None,
) -> None:
    """Show each schedule's last and next run. The exit status is 1 if a last run failed or was skipped."""
    with errors_reported():
        settings = configured(config)
        store = open_store(settings)
        kept = Schedules(store)
        if again is not None:
            _again(settings, kept, again)
            return
        found = [_shown(settings, store, kept, name) for name in settings.schedules]
        leads = kept.beat_leads()
        if as_json:
            print_json({"beat": leads, "schedules": found})
        else:
            schedules_view.table(found, beat=leads)
    ran = all(each["last"] is None or each["last"]["state"] in {"ran", "waiting"} for each in found)
    raise typer.Exit(SUCCEEDED if ran else SOME_FAILED)


def _shown(settings: Settings, store: Store, kept: Schedules, name: str) -> dict[str, Any]:
    """One schedule for `--json`: its settings, its last run and what became of that batch, and its next run."""
    schedule = settings.schedules[name]
    record = kept.record(name, schedule)
    times = calendar(schedule)
    last = record.latest
    batch = store.batch(last.batch) if last and last.batch else None
    return {
        "schedule": name,
        "workflow": schedule.workflow,
        "cron": schedule.cron,
        "timezone": schedule.timezone,
        "last": None
        if last is None
        else {
            "slot": last.scheduled_for,
            "local": times.local(from_name(last.scheduled_for)).isoformat(),
            "state": last.state,
            "missed": last.missed,
            "batch": last.batch or None,
            "status": batch.status if batch else None,
            "request_counts": batch.shown()["request_counts"] if batch else None,
            "words": last.words or None,
        },
        "next": {
            "slot": name_of(upcoming := times.next(datetime.fromtimestamp(time.time(), UTC))),
            "local": times.local(upcoming).isoformat(),
            "input": Source(schedule.source(times.local(upcoming))).shown,
        },
    }


def _again(settings: Settings, kept: Schedules, name: str) -> None:
    if name not in settings.schedules:
        fail(f'no schedule "{name}" is configured; configured: {", ".join(settings.schedules) or "none"}')
    last = kept.record(name, settings.schedules[name]).latest
    if last is None:
        fail(f"{name} has not run yet")
    if last.state not in {"failed", "skipped"}:
        fail(f"the last run of {name}, {last.scheduled_for}, did not fail: {last.state}")
    kept.again(name, last)
    schedules_view.again(name, last.scheduled_for, beat=kept.beat_leads())
