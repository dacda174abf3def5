"""`overnight jobs`: one job's story."""

from typing import Annotated

import typer

from tasks import show_jobs
from tasks.console import BatchId, Config, Json, configured, existing, fail, print_json, told
from tasks.store import open_store
from tasks.story import story


def jobs(
    batch: BatchId,
    custom_id: Annotated[str, typer.Argument(metavar="CUSTOM_ID", help="The custom_id of the job's line.")],
    as_json: Json = False,
    config: Config = None,
) -> None:
    """One job of a batch: where it is, and what it has done; of an agent's, every call, step, wait and cost."""
    with told():
        store = open_store(configured(config))
        found = existing(store, batch)
        one = story(store, found, custom_id)
        if one is None:
            fail(f'{batch} has no job with the custom_id "{custom_id[:60]}"')
        if as_json:
            print_json(one.shown())
        else:
            show_jobs.story(found, one)
