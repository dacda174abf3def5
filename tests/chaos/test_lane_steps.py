"""`make chaos-lanes`: at each step of the batch lane a worker is killed or an answer is lost, at every provider.

Each fault has a batch of its own; their chunks are under way at the same time. Three real workers move the chunks, and
die as tests/support/dying_worker.py says; a fourth one makes the live calls, so that no call is cut off by a kill, and
the books must equal the provider's journal to the nano-dollar.
"""

import json
import os
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from limits.snapshot import snapshot
from tasks.batches.batch import Batch
from tasks.batches.chunk_journal import ChunkJournal
from tasks.batches.files import errors_name, files_of, output_names
from tasks.batches.store import Store, open_store
from tasks.batches.submit import submit
from tests.simulator import Simulator
from tests.support.batch_apis import APIS, KEY
from tests.support.site import Line, Site, job, wait_for
from tests.support.worker_process import Worker
from workers.config.settings import Settings, load
from workers.models import budgets

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(900)]

PROVIDERS = ("openai", "azure", "anthropic", "gemini", "mistral", "groq", "together")

#: Seconds that cancelling may take.
CANCEL_TIME = 20.0

TOML = """
budget_usd = 5
budget_window = "total"
[providers.acme.models.small]
input_usd_per_mtok = 1.0
output_usd_per_mtok = 2.0
[workflows.nightly]
lanes = ["batch", "live"]
batch_min_time = "1s"
deadline = "30m"
budget_usd = 4
budget_window = "total"
"""


@dataclass(frozen=True)
class Case:
    """Points at which workers are killed, and what goes wrong at the provider, in one batch.

    `then`: what happens to the batch while its provider batch runs: nothing, `cancel`, or its latest moment (`late`).
    """

    points: tuple[str, ...] = ()
    faults: tuple[str, ...] = ()
    then: str = ""


#: A kill at each step. Some steps are made only if an answer is lost.
KILLS = (
    *(Case((point,)) for point in ("divide:before", "divide:after", "hold:after", "held:after", "uploading:after")),
    *(Case((point,)) for point in ("send:middle", "uploaded:before", "uploaded:after", "creating:after", "sent:after")),
    *(Case((point,)) for point in ("running:before", "running:after", "get:after", "fetching:after")),
    *(Case((point,)) for point in ("receive:middle", "recording:before", "settle:before", "settle:after")),
    *(Case((point,)) for point in ("returning:after", "leave_queue:after", "close:after", "closed:after")),
    Case(("creating:after", "find:after")),
    Case(("find:before",), ("lost_create",)),
    Case(("publish:after",), ("missing",)),
    Case(("go_live:after",), ("expires",)),
    Case(("cancelling:after",), then="cancel"),
    Case(("cancel:before", "cancel:after"), then="cancel"),
    Case(("cancel:after", "publish:after"), then="late"),
)
#: The answer of each step is lost, or breaks off.
LOST = (
    Case(faults=("lost_upload",)),
    Case(faults=("half_upload",)),
    Case(faults=("lost_create",)),
    Case(faults=("half_create",)),
    Case(faults=("lost_get",)),
    Case(faults=("lost_content",)),
    Case(faults=("half_content",)),
    Case(faults=("lost_delete",)),
    Case(faults=("lost_cancel",), then="cancel"),
)


@dataclass
class Fault:
    """A case and its batch. Its lines name it, so that the provider knows whose turn it is."""

    case: Case
    number: int
    batch: str = ""
    cancelled: bool = False
    hurries: bool = False
    lines: list[Line] = field(default_factory=list)

    @property
    def name(self) -> str:
        return f"fault {self.number:02} of the batch lane"

    def __str__(self) -> str:
        return ", ".join((*self.case.points, *self.case.faults, self.case.then))

    def fill(self, url: str) -> None:
        """Its lines: those that end early have other numbers, since Anthropic's list can tell lines only by number."""
        count = 14 + self.number if self.case.then else 5 + self.number % 5
        for number in range(1, count + 1):
            line = job(number, text=f"{self.name}, line {number}.")
            self.lines.append({**line, "url": url})

    def at_provider(self) -> list[dict[str, Any]]:
        """Its faults as the simulator takes them."""
        found = [{"mode": mode, "job": self.name} for mode in self.case.faults]
        return [*found, {"mode": "queued", "job": self.name, "seconds": 600}] if self.case.then else found


def makes(api: str, fault: Fault) -> bool:
    """Whether a Batch API has the step at which a case strikes: Anthropic's has no upload, and no file to delete."""
    inline = {"lost_upload", "half_upload", "lost_delete"}
    return api != "anthropic" or not inline & set(fault.case.faults)


def faults_of(api: str) -> list[Fault]:
    """Every fault of one provider, filled."""
    every = [Fault(case, number) for number, case in enumerate((*KILLS, *LOST))]
    found = [fault for fault in every if makes(api, fault)]
    for fault in found:
        fault.fill("/v1/messages" if api == "anthropic" else "/v1/chat/completions")
    return found


class Crew:
    """The workers: one that makes live calls, and three that die in the batch lane and are replaced."""

    def __init__(self, site: Site, folder: Path) -> None:
        self.site = site
        self.folder = folder
        self.steady = self._started("never")
        self.dying = [self._started(str(folder), "-Q", "workflow.none") for _ in range(3)]
        self.kills = 0

    def _started(self, dying: str, *options: str) -> Worker:
        program = "tests.support.dying_worker"
        return self.site.start_worker(*options, program=program, ready=False, environment={"DYING": dying})

    def replace_the_dead(self) -> None:
        """Start a worker for each that has died; anything but a kill fails the test."""
        assert self.steady.process.poll() is None, self.steady.said()[-3000:]
        for place, worker in enumerate(self.dying):
            if (status := worker.process.poll()) is not None:
                assert status == -9, worker.said()[-3000:]
                self.kills += 1
                self.dying[place] = self._started(str(self.folder), "-Q", "workflow.none")


@contextmanager
def at_work(folder: Path, name: str, faults: list[Fault]) -> Iterator[tuple[Site, Simulator, Store, Settings]]:
    """A provider with this Batch API, and a site with a batch for each fault."""
    settings = dict(APIS[name])
    path, api = settings.pop("path"), settings["api"]
    at_provider = [each for fault in faults for each in fault.at_provider()]
    with Simulator(batch_delay=0.5, batch_faults=at_provider) as simulator:
        provider = f'[providers.acme]\napi = "{api}"\nbase_url = "{simulator.base_url}{path}"\n'
        provider += f'api_key = "env:ACME_KEY"\nbatch_poll = "0.5s"\nbatch_cancel_time = {CANCEL_TIME}\n'
        top, _, tables = TOML.partition("[providers")
        with Site(folder, toml=f"{top}{provider}[providers{tables}") as site:
            found = load(site.file)
            store = open_store(found)
            (folder / "dying").mkdir()
            for fault in faults:
                batch, _ = submit(str(site.input(fault.lines)), found, store, workflow="nightly")
                fault.batch = batch.id
                if fault.case.points:
                    (folder / "dying" / batch.id).write_text("\n".join(fault.case.points))
            yield site, simulator, store, found
            store.client.close()


def run(site: Site, store: Store, faults: list[Fault], seconds: float) -> int:
    """Replace workers and cancel batches until all chunks are closed; returns how many workers died."""
    crew, ends = Crew(site, site.folder / "dying"), time.monotonic() + seconds
    while waiting := [fault for fault in faults if not is_done(store, fault)]:
        crew.replace_the_dead()
        last = all(fault.case.then == "late" for fault in waiting)
        for fault in waiting:
            if any(each.state == "running" for each in ChunkJournal(store, fault.batch).all()):
                end_early(store, fault, last=last)
        assert time.monotonic() < ends, shown(store, waiting)
        time.sleep(0.1)
    crew.replace_the_dead()
    return crew.kills


def end_early(store: Store, fault: Fault, *, last: bool) -> None:
    """Cancel its batch, or bring its latest moment near once all others are done: kills take time that it hasn't."""
    if fault.case.then == "cancel" and not fault.cancelled:
        store.stop(record(store, fault), "cancelled")
        fault.cancelled = True
    elif fault.case.then == "late" and last and not fault.hurries:
        store.note(record(store, fault), deadline=time.time() + CANCEL_TIME + 10.0)
        fault.hurries = True


def record(store: Store, fault: Fault) -> Batch:
    found = store.batch(fault.batch)
    assert found is not None
    return found


def is_done(store: Store, fault: Fault) -> bool:
    """Whether its batch has ended, with every chunk closed."""
    chunks = ChunkJournal(store, fault.batch).all()
    return record(store, fault).over and bool(chunks) and all(each.state == "closed" for each in chunks)


def shown(store: Store, faults: list[Fault]) -> str:
    """Where some batches are, for a message."""
    rows = []
    for fault in faults:
        chunks = [(each.state, each.trouble) for each in ChunkJournal(store, fault.batch).all()]
        rows.append(f"{fault}: {record(store, fault).status} {chunks}")
    return "\n".join(rows)


@pytest.mark.parametrize("name", PROVIDERS)
def test_each_step_is_killed_and_its_answer_lost(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(os.environ, "ACME_KEY", KEY)
    faults = faults_of(name)
    points = sum(len(fault.case.points) for fault in faults)
    assert len([fault for fault in faults if fault.case.points or fault.case.faults]) >= 30
    with at_work(tmp_path, name, faults) as (site, simulator, store, settings):
        kills = run(site, store, faults, 600)
        assert list((tmp_path / "dying").iterdir()) == [], "a point that no worker reached"
        assert kills == points
        stats, journal = simulator.stats(), simulator.journal()
        assert stats["batch_faults_struck"] == sum(len(fault.at_provider()) for fault in faults)
        created = Counter(each["first"] for each in simulator.batches())
        assert [each for each in created.values() if each > 1] == [], "a provider batch was created twice"
        assert stats["billed_again"] == 0, "a line was paid twice"
        for fault in faults:
            assert_complete(store, fault, [entry for entry in journal if fault.name in entry["job"]])
        assert_books(site, store, settings, sum(entry["cost_nusd"] for entry in journal))


def assert_complete(store: Store, fault: Fault, bill: list[dict[str, Any]]) -> None:
    """No line is lost or there twice, and the batch has cost what the provider billed for it."""
    batch, expected = record(store, fault), sorted(line["custom_id"] for line in fault.lines)
    files = files_of(batch)
    lines, errors = (
        [json.loads(line) for name in names for line in Path(files.path(name)).read_text().splitlines()]
        for names in (output_names(batch), [errors_name(batch)])
    )
    assert sorted(line["custom_id"] for line in (*lines, *errors)) == expected, fault
    assert batch.cost == sum(entry["cost_nusd"] for entry in bill), fault
    assert {entry["status"] for entry in bill} <= {200}
    if fault.cancelled:
        assert {line["error"]["code"] for line in errors} == {"batch_cancelled"}, fault
    else:
        assert (batch.status, errors) == ("completed", []), fault


def assert_books(site: Site, store: Store, settings: Settings, billed: int) -> None:
    """The budget windows and `overnight costs` show what the provider billed; nothing is held."""
    over = budgets.windows(settings, "nightly", None, time.time())
    reservations = wait_for(lambda: not store.server.run(snapshot(store.keys)).open_reservations, 60, 0.5)
    assert reservations, "nothing is reserved"
    found = {each.subject: each for each in store.server.run(snapshot(store.keys, budgets=over)).budgets}
    assert {each.held for each in found.values()} == {0}
    assert found["all"].spent == billed
    costs = json.loads(site.run("costs", "--json").stdout)
    assert round(costs["total"]["total_usd"] * 1e9) == billed
