"""`overnight jobs`: one job's report."""

from typing import Annotated

import typer

from tasks.batches.report import job_report
from tasks.batches.store import open_store
from tasks.console import jobs_view
from tasks.console.exit_status import errors_reported, fail
from tasks.console.options import BatchId, Config, Json
from tasks.console.session import configured, existing
from tasks.console.view import print_json


def jobs(
    batch: BatchId,
    custom_id: Annotated[str, typer.Argument(metavar="CUSTOM_ID", help="The custom_id of the job's line.")],
    as_json: Json = False,
    config: Config = None,
) -> None:
    """Show a job's state and what it has done; for an agent's job, also every call, step, wait and cost."""
    with errors_reported():
        store = open_store(configured(config))
        found = existing(store, batch)
        one = job_report(store, found, custom_id)
        if one is None:
            fail(f'{batch} has no job with the custom_id "{custom_id[:60]}"')
        if as_json:
            print_json(one.shown())
        else:
            jobs_view.job_report(found, one)
