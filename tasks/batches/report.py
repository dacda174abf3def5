"""One job of a batch, as `overnight jobs` tells it: what was asked, where it is now, and what it has done so far.

A job is found by its custom_id in the batch's input, and its result in the batch's files. A job that calls an agent
has a journal besides: every call and step, what it took, and why it waits.
"""

import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, cast

import orjson

from limits.budget import NANO
from tasks.agents.journal_record import Entry, Record, read
from tasks.batches.batch import Batch
from tasks.batches.files import INPUT, errors_name, files_of, output_names
from tasks.batches.input import numbered_lines, text_of
from tasks.batches.line_set import LineSet
from tasks.batches.store import Store
from tasks.jobs.job import Line, check, decode
from tasks.jobs.storage import StorageError


@dataclass(frozen=True, slots=True)
class Story:
    """One job. `state` is waiting, running, completed or failed; `result` its line where that is in a file."""

    line: Line
    number: int
    state: str
    result: dict[str, Any] | None
    journal: Record | None

    @property
    def where(self) -> str:
        """Where it is now, in words."""
        wait = self.journal.wait if self.journal is not None else None
        match self.state:
            case "running" if self.journal is not None:
                return f"running, after {_done(self.journal.entries.values())}"
            case "waiting" if wait is not None:
                seconds = wait["until"] - time.time()
                until = f"for {seconds:.0f} s more" if seconds > 0 else "and is due"
                return f"waiting {until}: {wait['reason']}"
            case "waiting":
                return "waiting in its queue, or for its turn to get there"
        return self.state

    def shown(self) -> dict[str, Any]:
        """As `overnight jobs --json` prints it; without prompts and answers."""
        told: dict[str, Any] = {
            "custom_id": self.line.custom_id,
            "line": self.number,
            "url": self.line.url,
            "state": self.state,
            "where": self.where,
            "error": self.result["error"] if self.result else None,
            "overnight": self.result["overnight"] if self.result else None,
        }
        if self.journal is not None:
            told["journal"] = {
                "cost_usd": self.journal.cost / NANO,
                "requests": self.journal.calls,
                "waits": self.journal.waits,
                "entries": [_entry(entry) for entry in self.journal.entries.values()],
            }
        return told


def _done(entries: Iterable[Entry]) -> str:
    kinds = [entry.kind for entry in entries]
    told = [f"{count} {kind}{'s' if count > 1 else ''}" for kind in ("call", "step") if (count := kinds.count(kind))]
    return " and ".join(told) or "nothing yet"


def _entry(entry: Entry) -> dict[str, Any]:
    return {
        "position": entry.position,
        "kind": entry.kind,
        "name": entry.name,
        "ok": entry.ok,
        "code": entry.code or None,
        "target": entry.target or None,
        "attempts": entry.attempts,
        "input_tokens": entry.input_tokens,
        "output_tokens": entry.output_tokens,
        "cost_usd": entry.cost / NANO,
        "seconds": entry.seconds,
        "ended_at": entry.at,
    }


def story(store: Store, batch: Batch, custom_id: str) -> Story | None:
    """The story of a job; None where the batch has none of this id."""
    found = _line(batch, custom_id)
    if found is None:
        return None
    number, line = found
    done = number in LineSet(cast("bytes", store.client.get(store.keys.done(batch.id)) or b""))
    ended = done or number in store.ended_lines(batch.id)
    state = "completed" if done else "failed" if ended else "running" if number in store.leased(batch.id) else "waiting"
    journal = None
    if line.agent:
        journal = read(cast("dict[bytes, bytes]", store.client.hgetall(store.keys.journal(batch.id, number))))
    return Story(line, number, state, _result(batch, custom_id) if ended else None, journal)


def _line(batch: Batch, custom_id: str) -> tuple[int, Line] | None:
    """The number and the line of this custom_id. Only lines that hold its text are decoded."""
    needle = _needle(custom_id)
    with files_of(batch).open(INPUT) as source:
        for number, raw, _ in numbered_lines(source):
            if needle in raw:
                line, _ = check(decode(text_of(raw)))
                if line is not None and line.custom_id == custom_id:
                    return number, line
    return None


def _result(batch: Batch, custom_id: str) -> dict[str, Any] | None:
    """The result line, where it has reached its file: in the errors, or in one of the outputs, the last first."""
    files, needle = files_of(batch), _needle(custom_id)
    for name in (errors_name(batch), *reversed(output_names(batch))):
        try:
            with files.open(name) as source:
                for raw in source:
                    if needle in raw and raw.endswith(b"\n"):
                        line: dict[str, Any] = orjson.loads(raw)
                        if line["custom_id"] == custom_id:
                            return line
        except StorageError as exc:
            if not exc.missing:
                raise
    return None


def _needle(custom_id: str) -> bytes:
    """A piece of the id that stands in its line however that was written: without what JSON may escape."""
    pieces = "".join(c if c.isascii() and c.isprintable() and c not in '"\\/' else "\0" for c in custom_id).split("\0")
    return max(pieces, key=len).encode()
