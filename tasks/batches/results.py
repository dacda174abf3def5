"""Results on their way from Redis into a batch's files: the stream, and the collector's place in it.

The place moves in two steps, each by compare-and-set: a *plan* settles up to which entry the next write goes, and a
*commit* says that it is on disk. Between the two, every collector writes the same bytes to the same place.

An entry is one line in a file, and one more for each copy of its job (copies.py). A line with very many copies takes
several writes. So a place is `entry id`, the last entry that is written whole, or `entry id+lines`, if `lines` lines of
the next entry are written, too. A plan is `entry id:entries`, or `entry id:1:lines` if it ends inside that entry.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

from limits.client.compact_json import dumps
from limits.client.scripts import Call, load
from tasks.batches.batch import Batch
from tasks.batches.copies import Answered, Copies, copies_of
from tasks.batches.store import Store

#: Results that are read from Redis at once.
CHUNK = 200

Entry = tuple[bytes, dict[bytes, bytes]]


@dataclass(frozen=True, slots=True)
class Write:
    """One write: the bytes for each file, and the place that is reached by it.

    `whole` is the last entry that then is written whole. `counts` is what the copies among its lines add to fields of
    the batch's record, and `checks` to its counts of checks.
    """

    plan: str
    place: str
    whole: str
    output: bytes
    errors: bytes
    counts: Mapping[str, int]
    checks: Mapping[str, int]


def next_write(store: Store, batch: Batch, entries: int, size: int) -> Write | None:
    """The next write, planned; None if no result waits, or another collector has written them.

    A new plan contains at most `entries` results and `size` bytes, but at least one result. If the batch has a plan, by
    a collector that was killed or is slow, that plan is used.
    """
    reader = _Reader(store, batch)
    if batch.plan:
        return reader.planned(batch.plan)
    found, proposed = reader.waiting(entries, size)
    if not found:
        return None
    counts = store.server.run(
        Call(
            load("tasks/batches/lua/plan.lua"),
            (store.keys.batch(batch.id),),
            (batch.written_id, batch.round, proposed),
            lambda reply: cast("bytes", reply).decode(),
        )
    )
    if counts == proposed:
        return reader.write(proposed, found)
    return reader.planned(counts) if counts else None


def commit(store: Store, batch: Batch, write: Write) -> None:
    """The write is on disk: move the batch on, unless another collector has done so."""
    args: list[str | bytes | int] = [batch.written_id, write.plan, write.place, write.whole]
    args += [len(write.output), len(write.errors), dumps(write.checks)]
    for name, number in write.counts.items():
        args += [name, number]
    names = (store.keys.batch(batch.id), store.keys.results(batch.id))
    store.server.run(Call(load("tasks/batches/lua/commit.lua"), names, tuple(args), bool))


class _Reader:
    """Reads the results of a batch that are not written, from its place on."""

    def __init__(self, store: Store, batch: Batch) -> None:
        self.store = store
        self.batch = batch
        self.copies: Copies | None = copies_of(batch)
        self.after, _, lines = batch.written_id.partition("+")
        self.begun = int(lines or 0)

    def waiting(self, entries: int, size: int) -> tuple[list[Entry], str]:
        """The first results, at most `entries` and about `size` bytes, and the plan to write them."""
        found: list[Entry] = []
        total, after = 0, self.after
        while len(found) < entries:
            wanted = min(CHUNK, entries - len(found))
            chunk = self._entries(after, "+", wanted)
            for entry in chunk:
                lines = self._lines(entry) - (0 if found else self.begun)
                total += len(entry[1][b"d"]) * lines
                if total > size and found:
                    return found, _plan(found)
                found.append(entry)
                if total > size and lines > 1:
                    part = max(1, size * lines // total)
                    return found, f"{_plan(found)}:{self.begun + part}"
            if len(chunk) < wanted:
                break
            after = chunk[-1][0].decode()
        return found, _plan(found) if found else ""

    def planned(self, plan: str) -> Write | None:
        """The write of an existing plan; None if its results are gone, because another collector has written them."""
        last, count, *_ = plan.split(":")
        found: list[Entry] = []
        after = self.after
        while len(found) < int(count):
            chunk = self._entries(after, last, min(CHUNK, int(count) - len(found)))
            if not chunk:
                return None
            found += chunk
            after = chunk[-1][0].decode()
        return self.write(plan, found) if found[-1][0].decode() == last else None

    def write(self, plan: str, found: list[Entry]) -> Write:
        """The write of these entries by this plan."""
        last, _, *part = plan.split(":")
        end = int(part[0]) if part else None
        files: dict[bool, list[bytes]] = {True: [], False: []}
        counts: Counter[str] = Counter()
        checks: Counter[str] = Counter()
        begun = self.begun
        for entry in found:
            ok, raw = entry[1][b"k"] == b"1", entry[1][b"d"]
            files[ok] += [] if begun else [raw]
            lines = self._lines(entry) if end is None else end
            if lines > 1 and (copies := self._copies(entry, max(begun - 1, 0), lines - 1)):
                answered = Answered.of(self.batch, raw)
                files[ok] += [answered.line(number, custom_id) for number, custom_id in copies]
                counts += answered.counts(ok, len(copies))
                checks += answered.checks(ok, len(copies))
            begun = 0
        place = last if end is None else f"{self.after}+{end}"
        whole = last if end is None else self.after
        written = {ok: b"".join(line + b"\n" for line in lines) for ok, lines in files.items()}
        return Write(plan, place, whole, written[True], written[False], counts, checks)

    def _lines(self, entry: Entry) -> int:
        """How many lines of the files an entry is."""
        return 1 if self.copies is None else 1 + self.copies.count(int(entry[1][b"n"]))

    def _copies(self, entry: Entry, first: int, end: int) -> list[tuple[int, str]]:
        """The number and custom_id of the copies of an entry's job, from the one with index `first` up to `end`."""
        return [] if self.copies is None else self.copies.of(int(entry[1][b"n"]), first, end)

    def _entries(self, after: str, last: str, count: int) -> list[Entry]:
        client: Any = self.store.client
        key = self.store.keys.results(self.batch.id)
        return cast("list[Entry]", client.xrange(key, f"({after}", last, count=count))


def _plan(found: list[Entry]) -> str:
    return f"{found[-1][0].decode()}:{len(found)}"
