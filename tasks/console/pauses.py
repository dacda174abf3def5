"""`overnight pause` and `overnight resume`: a batch or a workflow."""

from typing import Annotated

import typer

from tasks.batches.pilot_feed import go_on
from tasks.batches.store import Store, open_store
from tasks.console import view
from tasks.console.exit_status import errors_reported, fail
from tasks.console.options import Config
from tasks.console.session import configured, existing
from tasks.jobs import pauses
from workers.config.settings import Settings

Batch = Annotated[str | None, typer.Argument(metavar="[BATCH]", help="The batch's id.")]
Workflow = Annotated[
    str | None,
    typer.Option("--workflow", "-w", help="A workflow instead: all its batches, single jobs and live calls."),
]


def pause(batch: Batch = None, workflow: Workflow = None, config: Config = None) -> None:
    """Pause a batch or a workflow: nothing new starts, calls in flight finish, and deadlines keep running."""
    with errors_reported():
        settings = configured(config)
        store = open_store(settings)
        name = _name(settings, batch, workflow)
        if batch is not None and (found := existing(store, batch)).over:
            fail(f"{batch} has already ended: {found.status}")
        if not pauses.pause(store.client, store.keys, name):
            fail(f"{batch or workflow} is paused already; to go on: {pauses.command(name)}")
        view.say(f"{batch or workflow} is paused within a second; calls in flight finish, and deadlines keep running")
        view.say(f"To go on: {pauses.command(name)}")


def resume(batch: Batch = None, workflow: Workflow = None, config: Config = None) -> None:
    """Let a paused batch or workflow go on, or the rest of a batch follow its pilot."""
    with errors_reported():
        settings = configured(config)
        store = open_store(settings)
        name = _name(settings, batch, workflow)
        found = existing(store, batch) if batch is not None else None
        resumed = pauses.resume(store.client, store.keys, name)
        if found is not None and found.in_pilot and not found.over and not resumed:
            go_on(store, found)
        elif not resumed:
            fail(
                f"{batch or workflow} is not paused" + (f", and waits for no go-ahead: {found.status}" if found else "")
            )
        _wake(store, batch, workflow)
        view.say(f"{batch or workflow} goes on")
        if found is not None:
            view.say(f"Watch it: overnight status {batch}")


def _name(settings: Settings, batch: str | None, workflow: str | None) -> str:
    """What is paused. Ends the command unless it is one batch, or one workflow that is configured."""
    if (batch is None) == (workflow is None):
        fail("name a batch, or a workflow with --workflow")
    if batch is not None:
        return pauses.of_batch(batch)
    assert workflow is not None
    if workflow not in settings.workflows and not settings.any_workflow:
        fail(f'no workflow "{workflow}" is configured; configured: {", ".join(settings.workflows) or "none"}')
    return pauses.of_workflow(workflow)


def _wake(store: Store, batch: str | None, workflow: str | None) -> None:
    """Let the ticks look at what goes on."""
    for each in store.live():
        if each.id == batch or each.workflow == workflow:
            store.ticks.wake(f"feed:{each.id}")
            if each.has_batch_lane:
                store.lane_ticks.again(f"offload:{each.id}", 0.0)
