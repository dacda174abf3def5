"""Checks the input of a batch that came over HTTP. Then it becomes a batch like any other, or it fails."""

import time
from dataclasses import replace
from typing import Any

import orjson

from tasks.batches.acceptance import BatchRequest, request_of
from tasks.batches.batch import Batch
from tasks.batches.estimate import record_fields
from tasks.batches.files import files_of
from tasks.batches.input import InputError
from tasks.batches.problem_codes import problem
from tasks.batches.store import Store
from tasks.batches.submit import check_and_tally, duplicates_of, order_for, record_lanes, store_input
from tasks.batches.uploads import Uploads
from tasks.jobs import trace_context
from tasks.jobs.store import KEEP_BATCH
from workers.config.settings import Settings


def validate(store: Store, settings: Settings, batch: Batch) -> None:
    """Check the input of a batch that is `validating`. May be repeated, and may run twice at the same time."""
    request = request_of(batch)
    if request is None or batch.status != "validating":
        return
    with trace_context.submission(batch.workflow) as trace:
        try:
            checked = _checked(store, settings, batch, request)
        except InputError as exc:
            found = [problem(line, words) for line, words in exc.lines]
            if exc.count > len(found):
                found.append(problem(0, f"and {exc.count - len(found):,} more problems"))
            fail(store, batch, found)
        else:
            store.create(replace(checked, trace=trace))


def _checked(store: Store, settings: Settings, batch: Batch, request: BatchRequest) -> Batch:
    """The record of the batch, whose input is in its place and was checked; InputError if it has problems."""
    uploads = Uploads(store, settings.storage)
    upload = uploads.find(request.input_file_id)
    if upload is None:
        raise InputError("input", [f"the input file {request.input_file_id} was deleted, or it has expired"])
    source = uploads.source(upload)
    with duplicates_of(settings, batch.workflow) as duplicates:
        checked, tally = check_and_tally(
            source, settings, store, workflow=batch.workflow, url=request.endpoint, duplicates=duplicates
        )
        forecast = tally.forecast()
        order = store_input(files_of(batch), source, checked, order_for(tally, forecast))
        if duplicates is not None:
            duplicates.save(files_of(batch), order)
    return replace(
        batch,
        status="in_progress",
        total=checked.lines,
        bytes=checked.bytes,
        began=time.time(),
        lanes=record_lanes(settings.workflow(batch.workflow).lanes),
        **record_fields(forecast),
    )


def fail(store: Store, batch: Batch, problems: list[dict[str, Any]]) -> None:
    """End a batch whose input has problems."""
    written = orjson.dumps(problems).decode()
    store.advance(batch, ["validating"], "failed", keep=KEEP_BATCH, ended=repr(time.time()), problems=written)
