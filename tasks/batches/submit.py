"""Makes a file a batch, after checking every line. The same file for the same workflow is the same batch.

A single job needs no batch: `enqueue` puts it into its workflow's queue, and Celery's `AsyncResult.get()` returns its
result line.
"""

import hashlib
import math
import time
import uuid
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from tasks.batches.batch import Batch
from tasks.batches.duplicates import Duplicates
from tasks.batches.estimate import Forecast, Tally, record_fields
from tasks.batches.files import INPUT, verified
from tasks.batches.input import Checked, InputError, Place, check_file
from tasks.batches.lane_forecast import LaneTally
from tasks.batches.lane_times import LaneTimes
from tasks.batches.pilot import Sample
from tasks.batches.precheck import Precheck
from tasks.batches.prefix_order import PrefixOrder, at_once
from tasks.batches.sources import Source, source_of
from tasks.batches.store import Store
from tasks.jobs import job as jobs
from tasks.jobs import trace_context
from tasks.jobs.pricing import looked_up
from tasks.jobs.storage import Files, open_files
from workers.config.current import current_settings
from workers.config.settings import Settings
from workers.models import tokens
from workers.models.calibration import Ratios
from workers.models.routing import NoRoute
from workers.transport.envelope import JOB
from workers.transport.queues import is_workflow_name, queue_name

if TYPE_CHECKING:
    from celery.result import AsyncResult

__all__ = ["InputError", "check_and_tally", "enqueue", "submit"]


def submit(
    place: str | Source,
    settings: Settings,
    store: Store,
    *,
    workflow: str,
    new: bool = False,
    scheduled_run: str = "",
    lanes: tuple[str, ...] | None = None,
    dedupe: bool | None = None,
    pilot: int = 0,
) -> tuple[Batch, bool]:
    """Make a file or URL a batch; returns the new or existing batch, and whether it is new.

    With `new` it always becomes a new batch. With `scheduled_run` (a schedule and a time) it is that run's only batch,
    whatever the file contains. `lanes` and `dedupe`: instead of the workflow's. `pilot`: lines to be answered first.
    InputError with every problem of the file; then nothing was stored or queued.
    """
    source = source_of(place)
    with trace_context.submission(workflow) as trace, duplicates_of(settings, workflow, dedupe) as duplicates:
        sample = Sample(pilot)
        checked, tally = check_and_tally(
            source, settings, store, workflow=workflow, lanes=lanes, duplicates=duplicates, sample=sample
        )
        identity = f"{workflow}\n{scheduled_run or checked.sha256}\n{uuid.uuid4().hex if new else ''}"
        batch_id = "batch_" + hashlib.sha256(identity.encode()).hexdigest()[:24]
        existing = store.batch(batch_id)
        if existing is not None:
            return existing, False
        files = open_files(settings.storage, batch_id)
        forecast = tally.forecast()
        order = store_input(files, source, checked, order_for(tally, forecast))
        if duplicates is not None:
            duplicates.save(files, order)
        sample.save(files, order)
        batch = _record(batch_id, source, settings, checked, workflow, lanes or settings.workflow(workflow).lanes)
        return store.create(replace(batch, trace=trace, pilot=len(sample.picked()), **record_fields(forecast)))


def order_for(tally: Tally, forecast: Forecast) -> PrefixOrder | None:
    """The order in which the input is stored, for the pace that is expected; None for that of the file."""
    if not tally.precheck.workflow.prompt_cache:
        return None
    accounts = max((len(group.routes) for group in tally.groups.values()), default=1)
    pace = forecast.lines / forecast.seconds if forecast.seconds else math.inf
    return PrefixOrder(at_once(pace, accounts))


def store_input(files: Files, source: Source, checked: Checked, order: PrefixOrder | None) -> PrefixOrder | None:
    """Store a checked input, in another order if there is one; returns that."""

    def chunks() -> Iterator[bytes]:
        found = verified(source.chunks(), checked.sha256)
        return found if order is None else order.arranged(found)

    files.put(INPUT, chunks)
    return order


def _record(
    batch_id: str, source: Source, settings: Settings, checked: Checked, workflow: str, lanes: tuple[str, ...]
) -> Batch:
    """The record of a new batch."""
    now = time.time()
    return Batch(
        id=batch_id,
        workflow=workflow,
        name=source.name,
        status="in_progress",
        total=checked.lines,
        bytes=checked.bytes,
        storage=settings.storage,
        created=now,
        began=now,
        deadline=now + settings.workflow(workflow).deadline,
        lanes=record_lanes(lanes),
    )


def duplicates_of(
    settings: Settings, workflow: str, dedupe: bool | None = None
) -> AbstractContextManager[Duplicates | None]:
    """What finds equal lines, or nothing: as `dedupe` says, or the workflow's setting."""
    return Duplicates() if (settings.workflow(workflow).dedupe if dedupe is None else dedupe) else nullcontext()


def record_lanes(lanes: tuple[str, ...]) -> str:
    """The lanes as a batch's record has them: '' for live only."""
    return "" if lanes == ("live",) else ",".join(lanes)


def check_and_tally(
    source: Source,
    settings: Settings,
    store: Store,
    *,
    workflow: str,
    lanes: tuple[str, ...] | None = None,
    url: str = "",
    duplicates: Duplicates | None = None,
    sample: Sample | None = None,
) -> tuple[Checked, Tally]:
    """Check every line of a file and count what it would take; InputError with all its problems.

    `url`: the one that every line must name; '' for any. `duplicates` finds the lines that repeat another one,
    and `sample` picks some of the others.
    """
    if not is_workflow_name(workflow):
        raise InputError(
            "--workflow", [f'"{workflow[:60]}" is no workflow name: letters, digits, - _ . only, 128 at most']
        )
    if words := settings.refusal(workflow):
        raise InputError("--workflow", [words])
    tokens.load_tokenizer()  # the learnt corrections are for the same token counts that the workers make
    ratios = Ratios(store.keys.token_ratios)
    ratios.load(store.client.hgetall(store.keys.token_ratios))
    precheck = Precheck(settings, workflow, partial(looked_up, settings))
    allowed = lanes or settings.workflow(workflow).lanes
    tally = Tally(precheck, ratios, LaneTally(settings, workflow, allowed, LaneTimes(store)))

    def check(line: jobs.Line, size: int) -> None:
        if url and line.url != url:
            raise NoRoute(f"url must be {url}, the endpoint of the batch")
        precheck.check(line, size)

    checked = check_file(source, check, partial(_add, tally, duplicates, sample))
    if checked.count:
        raise InputError(source.shown, checked.messages(), checked.count, checked.problems)
    return checked, tally


def _add(
    tally: Tally, duplicates: Duplicates | None, sample: Sample | None, line: jobs.Line, size: int, place: Place
) -> None:
    """Count a line that has passed the check; a copy costs nothing."""
    if duplicates is not None and not line.agent:
        targets = [route.target for route in tally.precheck.routes(line)]
        if duplicates.add(place.number, line, targets):
            tally.copies += 1
            return
    tally.add(line, size)
    if sample is not None:
        sample.add(line.custom_id, place)


_prechecks: dict[str, Precheck] = {}


def _precheck(settings: Settings, workflow: str) -> Precheck:
    """The workflow's precheck, kept so that a process that enqueues many jobs looks each model up once."""
    found = _prechecks.get(workflow)
    if found is None or found.settings is not settings:
        found = _prechecks[workflow] = Precheck(settings, workflow, partial(looked_up, settings))
    return found


def enqueue(
    line: dict[str, Any], workflow: str = "default", *, priority: int | None = None
) -> "AsyncResult[dict[str, Any]]":
    """Put one job, an input line, into its workflow's queue; `.get()` returns its result line.

    InputError if no worker could run the line, kombu's errors if the broker cannot be reached. Then nothing is queued.
    """
    from workers.celery import app  # noqa: PLC0415 - importing this must not start a server

    problems: list[str] = []
    if not is_workflow_name(workflow):
        problems.append(f'"{workflow[:60]}" is no workflow name: letters, digits, - _ . only')
    elif words := current_settings().refusal(workflow):
        problems.append(words)
    checked, more = jobs.check(line)
    problems.extend(more)
    if checked is not None and not problems:
        try:
            _precheck(current_settings(), workflow).check(checked)
        except NoRoute as exc:
            problems.append(str(exc))
    if problems:
        raise InputError("enqueue", problems)
    options: dict[str, Any] = {"argsrepr": "()", "kwargsrepr": "{}"}
    if priority is not None:
        options["priority"] = priority
    if trace := trace_context.headers():
        options["headers"] = trace
    return app.send_task(JOB, kwargs={"job": line}, queue=queue_name(workflow), **options)
