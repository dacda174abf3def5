"""What a command works with: the configuration, a batch, and what that batch waits for."""

import os
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Final

import redis

from limits.errors import ServerUnavailable
from tasks.batches.batch import Batch
from tasks.batches.sources import Source
from tasks.batches.store import Store
from tasks.console import view
from tasks.console.exit_status import fail
from tasks.console.progress import progress
from workers.config.settings import Settings, SettingsError, load

#: Seconds between two readings of a batch that is watched.
POLL_EVERY: Final = 0.25

#: Seconds for which a command waits for an unreachable Redis server.
PATIENCE: Final = 120.0


def configured(config: Path | None, *, keys: bool = False) -> Settings:
    """Load the settings, for this process and those that it starts. With `keys`, every key variable must be set."""
    if config is not None:
        os.environ["OVERNIGHT_CONFIG"] = str(config.resolve())
    settings = load(None)
    missing = settings.missing_secrets() if keys else []
    if missing:
        raise SettingsError(missing)
    return settings


def submitted(
    source: Source,
    settings: Settings,
    store: Store,
    workflow: str,
    *,
    new: bool,
    lanes: tuple[str, ...] | None = None,
    dedupe: bool | None = None,
    pilot: int = 0,
) -> tuple[Batch, bool]:
    """Submit a file. Returns its batch, and whether that is new."""
    from tasks.batches.submit import submit as make_batch  # noqa: PLC0415 - only two commands need it

    if settings.any_workflow and (words := settings.warning(workflow)):
        view.say(words)
    return make_batch(source, settings, store, workflow=workflow, new=new, lanes=lanes, dedupe=dedupe, pilot=pilot)


def existing(store: Store, batch_id: str) -> Batch:
    """The batch `batch_id`. Ends the command if it does not exist."""
    found = store.batch(batch_id)
    if found is None:
        fail(f'there is no batch "{batch_id}"; list all: overnight status')
    return found


def waits_for(settings: Settings, store: Store, batch: Batch) -> str:
    """What the batch waits for, in words; '' for nothing, or if its record already reports trouble."""
    return blocker_and_lower_limits(settings, store, batch)[0]


def blocker_and_lower_limits(settings: Settings, store: Store, batch: Batch) -> tuple[str, list[str]]:
    """What a batch waits for, and the limits that its providers state lower than they are configured."""
    from tasks.monitoring import blockers, flex_tiers, snapshot  # noqa: PLC0415 - only two commands need it

    if batch.over or batch.trouble:
        return "", []
    try:
        now = snapshot.read(store, settings, ended=0)
    except ServerUnavailable as exc:
        return str(exc), []  # it answered a moment ago, but now refuses writes
    words = blockers.of_batch(now, batch, now.workers).words or flex_tiers.waits_for(settings, store, batch)
    return words, blockers.lower_limits(now, batch)


def watched(
    settings: Settings,
    store: Store,
    batch_id: str,
    *,
    on_poll: Callable[[int], None] | None = None,
    until: Callable[[], bool] = lambda: False,
    patience: float = PATIENCE,
) -> Batch:
    """Wait until the batch has ended or `until` returns True, with a progress bar on a terminal.

    `on_poll` is called every `POLL_EVERY` seconds with the number of jobs that have ended. If the server is unreachable
    or refuses commands (a restart, a failover), wait up to `patience` seconds for it.
    """
    away_since: float | None = None
    done = 0
    with progress(partial(waits_for, settings, store)) as bar:
        while True:
            try:
                batch = existing(store, batch_id)
                done = batch.done
                bar.update(batch)
                if batch.over or until():
                    return batch
                away_since = None
                bar.say("")
            except (ServerUnavailable, redis.RedisError) as exc:
                if away_since is None:
                    away_since = time.monotonic()
                    if not sys.stderr.isatty():
                        view.say(f"waiting for the Redis server, which is unreachable: {exc}")
                if until() or time.monotonic() - away_since > patience:
                    raise
                bar.say(f"the Redis server is unreachable: {exc}")
            if on_poll is not None:
                on_poll(done)
            time.sleep(POLL_EVERY)
