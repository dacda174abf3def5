"""The batch lane against deadlines: the price, the lines that are late, and the forecast.

20,000 lines with `lanes = ["batch", "live"]` and deadlines of 2, 8 and 24 hours. The provider's times are those that
OpenRouter publishes for 230,000 provider batches: half have ended after 7 minutes, 90 % after an hour, and the others
within a day. The same lines are called live, and sent through the Batch API without a way back. Time is compressed.

    python bench/lanes.py [--lines 20000] [--hours 2 8 24] [--report bench/results/lanes.md]
"""

import argparse
import os
import platform
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from bench.compressed_worker import PACE, compress  # noqa: E402 - the repository is not on the path of a script
from bench.report_file import publish  # noqa: E402
from tasks.batches import lane_report  # noqa: E402
from tasks.batches.batch import Batch  # noqa: E402
from tasks.batches.chunk_journal import ChunkJournal  # noqa: E402
from tasks.batches.estimate import estimate_errors  # noqa: E402
from tasks.batches.store import Store, open_store  # noqa: E402
from tasks.batches.submit import submit  # noqa: E402
from tests.simulator import Simulator  # noqa: E402
from tests.support.site import KEY, Site, jobs, wait_for  # noqa: E402
from workers.config.settings import Settings, load  # noqa: E402

HOUR = 3600.0

#: Pairs: this part of all provider batches has ended after these seconds.
TIMES = ((0.0, 60.0), (0.5, 7 * 60.0), (0.9, HOUR), (1.0, 24 * HOUR))

#: Seconds that the run of a deadline takes here.
RUN = 300.0

#: Provider batches of each run.
CHUNKS = 40

PRICES = "input_usd_per_mtok = 0.15\noutput_usd_per_mtok = 0.60\n"


@dataclass(frozen=True)
class Compressed:
    """A deadline in hours, and how many seconds one second stands for."""

    hours: float

    @property
    def scale(self) -> float:
        return self.hours * HOUR / RUN

    def config(self, provider: str) -> str:
        """The configuration with all times compressed."""
        return f"""
[providers.acme]
api = "openai"
base_url = "{provider}"
api_key = "env:ACME_KEY"
batch_poll = {max(0.2, 30 / self.scale)}
batch_cancel_time = {900 / self.scale}
[providers.acme.models.small]
{PRICES}[providers.acme.models.hope]
{PRICES}[workflows.live]
budget_usd = 100
[workflows.lanes]
budget_usd = 100
lanes = ["batch", "live"]
deadline = {RUN}
batch_min_time = {1800 / self.scale}
[workflows.hope]
budget_usd = 100
lanes = ["batch", "live"]
deadline = "30d"
"""


@dataclass(frozen=True)
class Outcome:
    """One deadline. Costs in n$, times in hours as they would be.

    `late` are lines without an answer at the deadline. `forecast` is the relative error of the forecast of the cost.
    """

    hours: float
    cost: int
    by_batch: int
    late: int
    done: float
    forecast: float
    hope_late: int


@dataclass(frozen=True)
class Live:
    """All lines called live: what they cost in n$, and the seconds that it took on this machine."""

    cost: int
    seconds: float


@contextmanager
def at_work(compressed: Compressed) -> Iterator[tuple[Store, Settings, Site]]:
    """A provider, a server and two workers; the estimates know how long answers are."""
    times = [[part, seconds / compressed.scale] for part, seconds in TIMES]
    with (
        tempfile.TemporaryDirectory() as folder,
        Simulator(batch_times=times, latency=[0.01, 0.03], answer_tokens=[20, 40], headers=False) as provider,
        Site(Path(folder), toml=compressed.config(provider.base_url)) as site,
    ):
        settings = load(site.file)
        store = open_store(settings)
        environment = {"CHUNK_LINES": os.environ["CHUNK_LINES"]}
        for _ in range(2):
            site.start_worker(program="bench.compressed_worker", environment=environment, concurrency=200)
        for model in ("small", "hope"):
            finished(store, submitted(site, store, settings, 200, "live", model))
            wait_for(lambda model=model: answers(store, model) == 200, 60, what="the length of answers, for estimates")
        yield store, settings, site
        store.client.close()


def answers(store: Store, model: str) -> int:
    """How many answers of a model have been counted for estimates."""
    return int(store.client.hget(store.keys.token_ratios, f"acme/{model}:answers") or 0)


def submitted(site: Site, store: Store, settings: Settings, lines: int, workflow: str, model: str = "small") -> Batch:
    """Submit `lines` different lines."""
    path = site.input(jobs(lines, model=model))
    return submit(str(path), settings, store, workflow=workflow)[0]


def now(store: Store, batch: Batch) -> Batch:
    found = store.batch(batch.id)
    assert found is not None
    return found


def finished(store: Store, batch: Batch) -> Batch:
    """The batch once it has ended."""
    while not batch.over:
        time.sleep(0.2)
        batch = now(store, batch)
    return batch


def live(lines: int) -> Live:
    """All lines live."""
    with at_work(Compressed(24)) as (store, settings, site):
        batch = finished(store, submitted(site, store, settings, lines, "live"))
        assert batch.completed == lines
        return Live(batch.cost, batch.ended - batch.began)


def measured(lines: int, hours: float) -> Outcome:
    """One deadline by lanes, and beside it the same lines through the Batch API without a way back."""
    compressed = Compressed(hours)
    with at_work(compressed) as (store, settings, site):
        batch = submitted(site, store, settings, lines, "lanes")
        hope = submitted(site, store, settings, lines, "hope", "hope")
        batch = finished(store, batch)
        time.sleep(max(0.0, hope.began + RUN - time.time()))
        hope = now(store, hope)
        found = lane_report.report(batch, ChunkJournal(store, batch.id).all())
        late = lines - batch.completed if batch.ended <= batch.deadline + 1.0 else lines
        done = (batch.ended - batch.began) * compressed.scale / HOUR
        error = estimate_errors(batch)["cost"]
        return Outcome(hours, batch.cost, found.completed, late, done, error, lines - hope.completed)


def report(lines: int, alone: Live, outcomes: list[Outcome]) -> str:
    """The report."""
    calls = lines / alone.seconds
    text = [
        "# Lanes",
        "",
        f"`make bench-lanes`, {os.cpu_count()} cores, Python {platform.python_version()}; all on one machine.",
        "",
        f"{lines:,} lines with prices of gpt-4o-mini, in {CHUNKS} provider batches. Half of the provider "
        "batches have ended after 7 minutes, 90 % after an hour, the last after 24 hours, as OpenRouter reports for "
        "230,000 of them; one that is cancelled returns the part that it has done. Time is compressed: each deadline "
        f"takes {RUN / 60:.0f} minutes here. Live calls are not: there are {calls:,.0f} a second, and a takeover counts "
        f"on {PACE:,.0f}, which for a deadline of 8 hours stands for {PACE / (8 * HOUR / RUN):.1f}.",
        "",
        "| deadline | all live | by lanes | lines by batch | late | done after | forecast of the cost | "
        "all by batch, then hope | late |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    text += [
        f"| {each.hours:g} h | 100 % | {each.cost / alone.cost:.1%} | {each.by_batch / lines:.1%} | {each.late} "
        f"| {each.done:.1f} h | {each.forecast:+.1%} | 50 % | {each.hope_late:,} ({each.hope_late / lines:.1%}) |"
        for each in outcomes
    ]
    text += [
        "",
        "- **late**: lines without an answer at the deadline.",
        "- **forecast**: that of the cost by lanes, before anything was sent; negative if the batch has cost more, "
        "since lines went live at the latest moment. The forecast of the time is the deadline, which was kept.",
        "- A line by batch costs 50 % of its live price, so the price by lanes is 50 % for the lines whose provider "
        "batch ends before the latest moment, and 100 % for the rest.",
    ]
    return "\n".join(text) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lines", type=int, default=20_000)
    parser.add_argument("--hours", type=float, nargs="+", default=[2, 8, 24])
    parser.add_argument("--report", type=Path)
    arguments = parser.parse_args()
    os.environ["ACME_KEY"] = KEY
    os.environ["CHUNK_LINES"] = str(arguments.lines // CHUNKS)
    compress(arguments.lines // CHUNKS)
    alone = live(arguments.lines)
    print(f"live: {alone}", flush=True)
    outcomes = []
    for hours in arguments.hours:
        outcomes.append(measured(arguments.lines, hours))
        print(outcomes[-1], flush=True)
    text = report(arguments.lines, alone, outcomes)
    publish(text, arguments.report)


if __name__ == "__main__":
    main()
