"""`overnight set`: a limit, a budget or a share, while workers run."""

import time
from datetime import UTC, datetime
from typing import Annotated

import typer

from tasks.batches.store import Store, open_store
from tasks.console import view
from tasks.console.exit_status import errors_reported, fail
from tasks.console.options import Config
from tasks.console.session import configured
from tasks.jobs import changed_settings
from workers.config import changes
from workers.config.changes import Change
from workers.config.settings import Settings


def set_(
    setting: Annotated[
        str,
        typer.Argument(metavar="KEY=VALUE", help="As overnight.toml has it: workflows.nightly.budget_usd=50"),
    ],
    unset: Annotated[bool, typer.Option("--unset", help="Let overnight.toml count again; name only the KEY.")] = False,
    config: Config = None,
) -> None:
    """Change a limit, a budget or a share on all workers within seconds, until overnight.toml says otherwise."""
    with errors_reported():
        settings = configured(config)
        store = open_store(settings)
        if unset:
            path = changes.path_of(setting)
            name = Change(path, None, None, 0.0).name
            if not changed_settings.remove(store.client, store.keys, path):
                fail(f"{name} was not changed; see overnight limits")
            view.say(f"{name} is as overnight.toml says, in a few seconds")
            return
        change = settings.change(*changes.parse(setting), time.time())
        settings.changed([*changed_settings.read(store.client, store.keys), change])  # or says what is wrong
        changed_settings.write(store.client, store.keys, change)
        view.say(words(change))
        view.say(f"Workers follow within seconds. Back to the file: overnight set --unset {change.name!r}")


def show(settings: Settings, store: Store) -> list[Change]:
    """Say what is changed, and return it."""
    found = settings.holding(changed_settings.read(store.client, store.keys))
    for change in found:
        view.say(words(change))
    return found


def words(change: Change) -> str:
    """A change, for people."""
    since = datetime.fromtimestamp(change.at, UTC)
    was = "overnight.toml doesn't set it" if change.file is None else f"overnight.toml: {change.file}"
    return f"{change.name} = {change.value} since {since:%Y-%m-%d %H:%M} UTC ({was})"
