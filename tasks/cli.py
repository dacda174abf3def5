"""The command line: `overnight`.

Data goes to stdout, everything for a person to stderr. Exit status: 0 all jobs succeeded, 1 some failed, 2 the
input, the configuration or the command is wrong, 3 the server is unreachable.
"""

import asyncio
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, NoReturn

import orjson
import redis
import typer

from limits.errors import LimitsError, ServerUnavailable
from tasks import show
from tasks.batch import Batch
from tasks.files import ERRORS, OUTPUT, Files, StorageError
from tasks.store import Store, open_store
from tasks.submit import InputError
from workers.server import ServerError
from workers.settings import Settings, SettingsError, load

SUCCEEDED, SOME_FAILED, WRONG, UNREACHABLE, INTERRUPTED = 0, 1, 2, 3, 130

app = typer.Typer(
    name="overnight",
    help="Batches of LLM jobs overnight: inside every rate limit and a hard budget, without losing a job.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

Config = Annotated[
    Path | None,
    typer.Option("--config", help="The configuration file; else OVERNIGHT_CONFIG, else ./overnight.toml."),
]
Workflow = Annotated[str, typer.Option("--workflow", "-w", help="The workflow that the jobs belong to.")]
BatchId = Annotated[str, typer.Argument(metavar="BATCH", help="A batch id, as `overnight submit` printed it.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def main() -> None:
    """Run the command line."""
    app()


@app.command()
def run(
    source: Annotated[Path, typer.Argument(metavar="IN.jsonl", help="The jobs, in OpenAI's batch format.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Where the answers go.")],
    workflow: Workflow = "default",
    workers: Annotated[int, typer.Option(min=1, max=64, help="Worker processes.")] = 2,
    concurrency: Annotated[
        int, typer.Option("--concurrency", "-c", min=1, help="Calls in flight in each process, at most.")
    ] = 100,
    errors: Annotated[Path | None, typer.Option(help="Where failures go; else beside the output.")] = None,
    config: Config = None,
) -> None:
    """One machine, one command: server, workers, submit, progress, results, stop.

    Run again after an interruption, it goes on, and pays for nothing twice.
    """
    from tasks import local  # noqa: PLC0415 - what only this command needs

    started = time.monotonic()
    with told():
        settings = configured(config, keys=True)
        errors = errors or output.with_name(f"{output.stem}.errors{output.suffix}")
        store = open_store(settings)
        batch, new = submitted(source, settings, store, workflow, new=False)
        show.begun(batch, new)
        if not batch.over:
            try:
                with local.workers(settings, workers, concurrency) as group:
                    batch = watched(store, batch.id, on_poll=group.check)
            except KeyboardInterrupt:
                show.interrupted(store.batch(batch.id) or batch)
                raise typer.Exit(INTERRUPTED) from None
        fetch(batch, output, errors)
        show.ended(batch, output, errors, seconds=time.monotonic() - started)
    raise typer.Exit(outcome(batch))


@app.command()
def submit(
    source: Annotated[Path, typer.Argument(metavar="IN.jsonl", help="The jobs, in OpenAI's batch format.")],
    workflow: Workflow = "default",
    wait_for: Annotated[bool, typer.Option("--wait", help="Wait until the batch has ended.")] = False,
    new: Annotated[bool, typer.Option("--new", help="A batch of its own, even if this file was one before.")] = False,
    config: Config = None,
) -> None:
    """Check a file, make it a batch, and print the batch's id."""
    with told():
        settings = configured(config)
        store = open_store(settings)
        batch, fresh = submitted(source, settings, store, workflow, new=new)
        print(batch.id)  # noqa: T201 - the id alone, for a script to take
        show.begun(batch, fresh)
        if wait_for:
            raise typer.Exit(outcome(watched(store, batch.id)))


@app.command()
def status(
    batch: Annotated[str | None, typer.Argument(metavar="[BATCH]", help="A batch id; none lists them.")] = None,
    as_json: Json = False,
    config: Config = None,
) -> None:
    """How far a batch has come; without a batch, how far each has."""
    with told():
        store = open_store(configured(config))
        if batch is None:
            found = store.batches()
            _print_json([one.shown() for one in found]) if as_json else show.table(found)
            return
        one = existing(store, batch)
        _print_json(one.shown()) if as_json else show.one(one)


@app.command()
def wait(batch: BatchId, config: Config = None) -> None:
    """Wait until a batch has ended."""
    with told():
        store = open_store(configured(config))
        existing(store, batch)
        raise typer.Exit(outcome(watched(store, batch)))


@app.command()
def results(
    batch: BatchId,
    output: Annotated[Path, typer.Option("--output", "-o", help="Where the answers go.")],
    errors: Annotated[Path | None, typer.Option(help="Where the failures go.")] = None,
    config: Config = None,
) -> None:
    """Write a batch's answers, and its failures, to files of yours."""
    with told():
        found = existing(open_store(configured(config)), batch)
        if not found.over:
            fail(f"{batch} is {found.status}: its results are there when it has ended (overnight wait {batch})")
        fetch(found, output, errors)
    raise typer.Exit(outcome(found))


@app.command()
def cancel(batch: BatchId, config: Config = None) -> None:
    """Stop what has not begun; what is being paid for finishes."""
    with told():
        store = open_store(configured(config))
        found = existing(store, batch)
        if found.over:
            fail(f"{batch} has ended already: {found.status}")
        store.stop(batch, "cancelled")
        show.say(f"{batch} is being cancelled; calls in flight finish. Watch it: overnight status {batch}")


@app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
def worker(
    context: typer.Context,
    number: Annotated[int, typer.Option("-n", min=1, max=64, help="Worker processes.")] = 1,
    concurrency: Annotated[
        int, typer.Option("--concurrency", "-c", min=1, help="Calls in flight in each process, at most.")
    ] = 100,
    config: Config = None,
) -> None:
    """Run workers until they are stopped. Further options go to Celery's worker."""
    from tasks import local  # noqa: PLC0415 - what only this command needs

    with told():
        configured(config, keys=True)
        raise typer.Exit(local.run_workers(number, concurrency, context.args))


@app.command()
def check(config: Config = None) -> None:
    """Tell what is configured, what is reachable, and what is missing."""
    from tasks.check import check as run_check  # noqa: PLC0415 - what only this command needs

    with told():
        settings = configured(config)
        findings = asyncio.run(run_check(settings))
        show.findings(findings)
    raise typer.Exit(WRONG if any(finding.state == "error" for finding in findings) else SUCCEEDED)


def configured(config: Path | None, *, keys: bool = False) -> Settings:
    """The settings, for this process and all that it starts; with `keys`, no key variable may be unset."""
    if config is not None:
        os.environ["OVERNIGHT_CONFIG"] = str(config.resolve())
    settings = load(None)
    missing = settings.missing_secrets() if keys else []
    if missing:
        raise SettingsError(missing)
    return settings


def submitted(source: Path, settings: Settings, store: Store, workflow: str, *, new: bool) -> tuple[Batch, bool]:
    """The batch that the file is, and whether it is new."""
    from tasks.submit import submit as make_batch  # noqa: PLC0415 - what only two commands need
    from workers.routing import Routes  # noqa: PLC0415

    return make_batch(source, settings, store, Routes(settings), workflow=workflow, new=new)


def existing(store: Store, batch_id: str) -> Batch:
    """The batch of this id; where there is none, the command ends."""
    found = store.batch(batch_id)
    if found is None:
        fail(f'there is no batch "{batch_id}": overnight status lists them')
    return found


def watched(store: Store, batch_id: str, on_poll: Callable[[], None] | None = None) -> Batch:
    """Wait until the batch has ended, with a progress bar where there is a terminal."""
    with show.progress() as bar:
        while True:
            batch = existing(store, batch_id)
            bar.update(batch)
            if batch.over:
                return batch
            if on_poll is not None:
                on_poll()
            time.sleep(0.25)


def fetch(batch: Batch, output: Path, errors: Path | None) -> None:
    """Copy a batch's files out. No error file is left behind where nothing failed."""
    files = Files(batch.storage, batch.id)
    files.fetch(OUTPUT, output)
    if errors is not None:
        if batch.failed:
            files.fetch(ERRORS, errors)
        else:
            errors.unlink(missing_ok=True)


def outcome(batch: Batch) -> int:
    """The exit status that a batch's end means."""
    return SUCCEEDED if batch.status == "completed" and not batch.failed else SOME_FAILED


def fail(words: str, code: int = WRONG) -> NoReturn:
    """End the command with a message."""
    show.error(words)
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
    except (ServerUnavailable, ServerError, redis.ConnectionError, redis.TimeoutError) as exc:
        fail(f"the Redis server is unreachable: {exc}", UNREACHABLE)
    except LimitsError as exc:
        fail(str(exc), UNREACHABLE)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise typer.Exit(SUCCEEDED) from None


def _print_json(value: Any) -> None:
    print(orjson.dumps(value, option=orjson.OPT_INDENT_2).decode())  # noqa: T201 - the command's data
