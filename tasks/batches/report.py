"""The report of one job of a batch, for `overnight jobs`: its request, its state, and what it has done so far.

The job is found in the batch's input by its custom_id, and its result in the output files. The job of an agent also has
a journal: every call and step, what each took, and why the job waits.
"""

import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, cast

import orjson

from limits.budget import NANO
from tasks.agents.journal_record import Entry, Record, read
from tasks.batches.batch import Batch
from tasks.batches.copies import copies_of
from tasks.batches.files import INPUT, errors_name, files_of, output_names
from tasks.batches.input import numbered_lines, text_of
from tasks.batches.line_set import LineSet
from tasks.batches.store import Store
from tasks.jobs.job import Line, check, decode
from tasks.jobs.storage import StorageError


@dataclass(frozen=True, slots=True)
class JobReport:
    """One job. `state` is waiting, running, completed or failed; `result` is its result line if a file has it.

    `lane`: the one that it waits in, or that brought its result; '' if unknown.
    """

    line: Line
    number: int
    state: str
    result: dict[str, Any] | None
    journal: Record | None
    lane: str = ""

    @property
    def where(self) -> str:
        """Its state, in words."""
        wait = self.journal.wait if self.journal is not None else None
        match self.state:
            case "running" if self.journal is not None:
                return f"running, after {_done(self.journal.entries.values())}"
            case "waiting" if wait is not None:
                seconds = wait["until"] - time.time()
                until = f"for {seconds:.0f} s more" if seconds > 0 else "and is due"
                return f"waiting {until}: {wait['reason']}"
            case "waiting" if self.lane == "batch":
                return "in the batch lane: `overnight status` shows its provider batches"
            case "waiting":
                return "waiting in its queue, or for its turn to get there"
        return self.state

    def shown(self) -> dict[str, Any]:
        """As `overnight jobs --json` prints it, without prompts and answers."""
        shown: dict[str, Any] = {
            "custom_id": self.line.custom_id,
            "line": self.number,
            "url": self.line.url,
            "state": self.state,
            "where": self.where,
            "lane": self.lane or None,
            "error": self.result["error"] if self.result else None,
            "overnight": _without_reasons(self.result["overnight"]) if self.result else None,
        }
        if self.journal is not None:
            shown["journal"] = {
                "cost_usd": self.journal.cost / NANO,
                "requests": self.journal.calls,
                "waits": self.journal.waits,
                "entries": [_entry(entry) for entry in self.journal.entries.values()],
            }
        return shown


def _without_reasons(report: dict[str, Any]) -> dict[str, Any]:
    """A result line's report without the reasons of its checks, which may quote the answer."""
    shown = dict(report)
    if "checks" in report:
        shown["checks"] = {"result": report["checks"]["result"]}
    if "answers" in report:
        shown["answers"] = [_without_reasons(each) for each in report["answers"]]
    return shown


def _done(entries: Iterable[Entry]) -> str:
    kinds = [entry.kind for entry in entries]
    words = [f"{count} {kind}{'s' if count > 1 else ''}" for kind in ("call", "step") if (count := kinds.count(kind))]
    return " and ".join(words) or "nothing yet"


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


def job_report(store: Store, batch: Batch, custom_id: str) -> JobReport | None:
    """The report of a job; None if the batch has no job with this custom_id."""
    found = _line(batch, custom_id)
    if found is None:
        return None
    number, line = found
    copies = copies_of(batch)
    asked = (copies.original_of(number) if copies is not None else None) or number  # a copy has its original's state
    done = asked in LineSet(cast("bytes", store.client.get(store.keys.done(batch.id)) or b""))
    ended = done or asked in store.ended_lines(batch.id)
    state = "completed" if done else "failed" if ended else "running" if asked in store.leased(batch.id) else "waiting"
    journal = None
    if line.agent:
        journal = read(cast("dict[bytes, bytes]", store.client.hgetall(store.keys.journal(batch.id, number))))
    result = _result(batch, custom_id) if ended else None
    lane = (result or {}).get("overnight", {}).get("lane") or ""
    if state == "waiting":
        # By flex or live: its worker decides when it is delivered.
        lane = "batch" if asked in LineSet(store.offloaded_map(batch)) else "" if batch.has_flex_lane else "live"
    return JobReport(line, number, state, result, journal, lane)


def _line(batch: Batch, custom_id: str) -> tuple[int, Line] | None:
    """The line with this custom_id, and its number. Only lines that contain its text are decoded."""
    needle = _needle(custom_id)
    with files_of(batch).open(INPUT) as source:
        for number, raw, _ in numbered_lines(source):
            if needle in raw:
                line, _ = check(decode(text_of(raw)))
                if line is not None and line.custom_id == custom_id:
                    return number, line
    return None


def _result(batch: Batch, custom_id: str) -> dict[str, Any] | None:
    """The result line if a file has it: looks in the errors, then in the outputs from the last round back."""
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
    """The longest part of the id that no JSON encoder escapes, so that its line contains it literally."""
    pieces = "".join(c if c.isascii() and c.isprintable() and c not in '"\\/' else "\0" for c in custom_id).split("\0")
    return max(pieces, key=len).encode()
