"""A file becomes a batch: every line is checked first, and the same file for the same workflow is one batch.

A single job needs no batch: `enqueue` puts it into its workflow's queue, and its result line comes back through
Celery's `AsyncResult.get()`.
"""

import hashlib
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from tasks import job as jobs
from tasks.batch import Batch
from tasks.files import INPUT, Files
from tasks.precheck import Precheck
from tasks.pricing import looked_up
from tasks.store import Store
from workers.queues import is_workflow_name, queue_name
from workers.routing import NoRoute
from workers.settings import Settings

if TYPE_CHECKING:
    from celery.result import AsyncResult

#: A longer line is no job: the largest contexts that providers take are a few megabytes of text.
MAX_LINE = 16 << 20

#: Problems that are shown; the rest are counted.
SHOWN = 20


class InputError(Exception):
    """The input has problems; nothing was queued. `problems` holds the first of them, `count` all."""

    def __init__(self, source: str, problems: list[str], count: int | None = None) -> None:
        self.source = source
        self.problems = problems
        self.count = len(problems) if count is None else count
        super().__init__(source, problems, self.count)

    def __str__(self) -> str:
        more = self.count - len(self.problems)
        rows = [f"{self.source}: {problem}" for problem in self.problems]
        if more > 0:
            rows.append(f"{self.source}: and {more:,} more problem{'s' if more > 1 else ''}")
        return "\n".join(rows)


@dataclass(slots=True)
class Checked:
    """What a look at every line of a file found."""

    lines: int = 0
    bytes: int = 0
    sha256: str = ""
    problems: list[str] = field(default_factory=list)
    count: int = 0

    def add(self, problem: str) -> None:
        """Note a problem; after the first `SHOWN` they are only counted."""
        self.count += 1
        if len(self.problems) < SHOWN:
            self.problems.append(problem)


def numbered_lines(source: BinaryIO) -> Iterator[tuple[int, bytes, bool]]:
    """(line number from 1, its bytes with the line end, whether it was cut off at `MAX_LINE`)."""
    number = 0
    while raw := source.readline(MAX_LINE + 1):
        number += 1
        whole = len(raw) <= MAX_LINE
        yield number, raw, not whole
        while not whole:
            rest = source.readline(1 << 20)
            yield number, rest, True
            whole = not rest or rest.endswith(b"\n")


def check_file(path: Path, precheck: Precheck) -> Checked:
    """Look at every line of the file, in one pass; InputError where it cannot be read at all."""
    found = Checked()
    digest = hashlib.sha256()
    first_line: dict[str, int] = {}
    last_cut = 0
    try:
        with path.open("rb") as source:
            for number, raw, cut in numbered_lines(source):
                digest.update(raw)
                found.bytes += len(raw)
                if cut:
                    if number != last_cut:
                        found.add(f"line {number}: longer than {MAX_LINE >> 20} MiB, which no provider takes")
                    last_cut = number
                    continue
                if text := raw.removeprefix(b"\xef\xbb\xbf").strip() if number == 1 else raw.strip():
                    found.lines += 1
                    _check_line(number, text, first_line, precheck, found)
    except FileNotFoundError:
        raise InputError(str(path), ["there is no such file"]) from None
    except IsADirectoryError:
        raise InputError(str(path), ["is a folder; name a file of JSON lines"]) from None
    except OSError as exc:
        raise InputError(str(path), [f"cannot be read: {exc.strerror or exc}"]) from exc
    if not found.lines and not found.count:
        found.add("is empty: give it one JSON object a line")
    found.sha256 = digest.hexdigest()
    return found


def _check_line(number: int, text: bytes, first_line: dict[str, int], precheck: Precheck, found: Checked) -> None:
    try:
        value = jobs.decode(text)
    except ValueError as exc:
        found.add(f"line {number}: {exc}")
        return
    line, problems = jobs.check(value)
    for problem in problems:
        found.add(f"line {number}: {problem}")
    custom_id = value.get("custom_id") if isinstance(value, dict) else None
    if isinstance(custom_id, str) and custom_id:
        before = first_line.setdefault(custom_id, number)
        if before != number:
            found.add(f'line {number}: custom_id "{custom_id[:60]}" stands already in line {before}')
    if line is not None:
        try:
            precheck.check(line)
        except NoRoute as exc:
            found.add(f"line {number}: {exc}")


def submit(
    path: Path,
    settings: Settings,
    store: Store,
    *,
    workflow: str,
    new: bool = False,
) -> tuple[Batch, bool]:
    """Make the file a batch, or find that it is one already; says whether it is new.

    Raises InputError with every problem of the file; then nothing was stored and nothing queued.
    """
    if not is_workflow_name(workflow):
        raise InputError(
            "--workflow", [f'"{workflow[:60]}" is no workflow name: letters, digits, - _ . only, 128 at most']
        )
    found = check_file(path, Precheck(settings, workflow, partial(looked_up, settings)))
    if found.count:
        raise InputError(str(path), found.problems, found.count)
    identity = f"{workflow}\n{found.sha256}\n{uuid.uuid4().hex if new else ''}"
    batch_id = "batch_" + hashlib.sha256(identity.encode()).hexdigest()[:24]
    existing = store.batch(batch_id)
    if existing is not None:
        return existing, False
    Files(settings.storage, batch_id).put(path, INPUT)
    now = time.time()
    batch = Batch(
        id=batch_id,
        workflow=workflow,
        name=path.name,
        status="in_progress",
        total=found.lines,
        bytes=found.bytes,
        storage=settings.storage,
        created=now,
        deadline=now + settings.workflow(workflow).deadline,
    )
    return store.create(batch)


_prechecks: dict[str, Precheck] = {}


def _precheck(settings: Settings, workflow: str) -> Precheck:
    """A process that enqueues many jobs looks a model up once."""
    found = _prechecks.get(workflow)
    if found is None or found.settings is not settings:
        found = _prechecks[workflow] = Precheck(settings, workflow, partial(looked_up, settings))
    return found


def enqueue(
    line: dict[str, Any], workflow: str = "default", *, priority: int | None = None
) -> "AsyncResult[dict[str, Any]]":
    """Put one job, an input line, into its workflow's queue; `.get()` gives its result line.

    Raises InputError where the line is none that a worker could run, and kombu's errors where the broker cannot
    be reached; then nothing is queued.
    """
    from workers.celery import JOB, app, current_settings  # noqa: PLC0415 - importing this must not start a server

    problems: list[str] = []
    if not is_workflow_name(workflow):
        problems.append(f'"{workflow[:60]}" is no workflow name: letters, digits, - _ . only')
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
    return app.send_task(JOB, kwargs={"job": line}, queue=queue_name(workflow), **options)
