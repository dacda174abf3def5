"""What the commands share: options, the configuration, and words and exit statuses for what goes wrong.

Data goes to stdout, everything for a person to stderr. Exit status: 0 all jobs succeeded, 1 some failed, 2 the
input, the configuration or the command is wrong, 3 the server is unreachable.
"""

import os
import re
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, NoReturn

import orjson
import redis
import typer

from limits.client.replies import as_told
from limits.errors import LimitsError, NotPermitted, ServerUnavailable
from tasks.batches.batch import Batch
from tasks.batches.input import InputError
from tasks.batches.sources import Source
from tasks.batches.storage import StorageError
from tasks.batches.store import Store
from tasks.console import view
from tasks.console.progress import progress
from workers.config.settings import Settings, SettingsError, load
from workers.embedded import ServerError

SUCCEEDED, SOME_FAILED, WRONG, UNREACHABLE, INTERRUPTED = 0, 1, 2, 3, 130

#: Seconds between two looks at a batch that is watched, and for which a server may be away meanwhile.
POLL_EVERY, PATIENCE = 0.25, 120.0

Config = Annotated[
    Path | None,
    typer.Option("--config", help="The configuration file; else OVERNIGHT_CONFIG, else ./overnight.toml."),
]
Workflow = Annotated[str, typer.Option("--workflow", "-w", help="The workflow that the jobs belong to.")]
BatchId = Annotated[str, typer.Argument(metavar="BATCH", help="A batch id, as `overnight submit` printed it.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def configured(config: Path | None, *, keys: bool = False) -> Settings:
    """The settings, for this process and all that it starts; with `keys`, no key variable may be unset."""
    if config is not None:
        os.environ["OVERNIGHT_CONFIG"] = str(config.resolve())
    settings = load(None)
    missing = settings.missing_secrets() if keys else []
    if missing:
        raise SettingsError(missing)
    return settings


def submitted(source: Source, settings: Settings, store: Store, workflow: str, *, new: bool) -> tuple[Batch, bool]:
    """The batch that the file is, and whether it is new."""
    from tasks.batches.submit import submit as make_batch  # noqa: PLC0415 - what only two commands need

    if settings.any_workflow and (words := settings.warning(workflow)):
        view.say(words)
    return make_batch(source, settings, store, workflow=workflow, new=new)


def existing(store: Store, batch_id: str) -> Batch:
    """The batch of this id; where there is none, the command ends."""
    found = store.batch(batch_id)
    if found is None:
        fail(f'there is no batch "{batch_id}": overnight status lists them')
    return found


def waits_for(settings: Settings, store: Store, batch: Batch) -> str:
    """What keeps the batch's jobs from going out now, in words; '' if nothing does, or if it is told as trouble."""
    return outlook(settings, store, batch)[0]


def outlook(settings: Settings, store: Store, batch: Batch) -> tuple[str, list[str]]:
    """What a batch waits for, as above; and the limits that its providers state and that are lower than configured."""
    from tasks.monitoring import blockers, snapshot  # noqa: PLC0415 - what only two commands need

    if batch.over or batch.trouble:
        return "", []
    try:
        now = snapshot.read(store, settings, ended=0)
    except ServerUnavailable as exc:
        return str(exc), []  # it has just answered, but refuses what writes
    return blockers.of_batch(now, batch, now.workers).words, blockers.lower_limits(now, batch)


def watched(
    settings: Settings,
    store: Store,
    batch_id: str,
    *,
    on_poll: Callable[[int], None] | None = None,
    until: Callable[[], bool] = lambda: False,
    patience: float = PATIENCE,
) -> Batch:
    """Wait until the batch has ended or `until` says so, with a progress bar where there is a terminal.

    `on_poll` is called now and then with the number of jobs that have ended.
    A server that is away, or refuses everything, for a while (it is started again, or fails over) is waited for.
    """

    def waits(batch: Batch) -> str:
        return waits_for(settings, store, batch)

    away_since: float | None = None
    done = 0
    with progress(waits) as bar:
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
                        view.say(f"the Redis server is away, and is waited for: {exc}")
                if until() or time.monotonic() - away_since > patience:
                    raise
                bar.say(f"the Redis server is away: {exc}")
            if on_poll is not None:
                on_poll(done)
            time.sleep(POLL_EVERY)


def outcome(batch: Batch) -> int:
    """The exit status that a batch's end means."""
    return SUCCEEDED if batch.status == "completed" and not batch.failed else SOME_FAILED


def fail(words: str, code: int = WRONG) -> NoReturn:
    """End the command with a message."""
    view.error(words)
    raise typer.Exit(code)


@contextmanager
def told() -> Iterator[None]:
    """Turn what can go wrong into words and an exit status; never a traceback for what a person can mend."""
    try:
        yield
    except (InputError, SettingsError) as exc:
        fail(str(exc))
    except StorageError as exc:
        fail(str(exc))
    except NotPermitted as exc:
        fail(str(exc), UNREACHABLE)
    except (ServerUnavailable, ServerError, redis.ConnectionError, redis.TimeoutError) as exc:
        fail(f"the Redis server is unreachable: {exc}", UNREACHABLE)
    except redis.RedisError as exc:
        fail(f"the Redis server refuses what is asked of it: {as_told(exc)}", UNREACHABLE)
    except LimitsError as exc:
        fail(str(exc), UNREACHABLE)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise typer.Exit(SUCCEEDED) from None
    except OSError as exc:
        fail(f"{exc.filename}: {exc.strerror}" if exc.filename else str(exc))


#: Characters that control a terminal and that JSON does not have to escape.
_CONTROL = re.compile(r"[\x7f-\x9f]")


def print_json(value: Any) -> None:
    """The data of a command, for another program."""
    text = orjson.dumps(value, option=orjson.OPT_INDENT_2).decode()
    print(_CONTROL.sub(lambda found: f"\\u{ord(found[0]):04x}", text))  # noqa: T201 - the command's data
