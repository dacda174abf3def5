"""The sixty tickets twice, side by side: live, and by lanes = ["batch", "live"] within eight hours.

The provider is simulated on this machine and has a Batch API. Time is compressed: one second stands for ten minutes.
Most provider batches end within the hour, as public reports say; one is in the provider's queue for a day.

    make lanes        # or: python examples/lanes.py
"""

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console
from rich.table import Table

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from tasks.batches import lane_report  # noqa: E402 - the repository is not on the path of a script
from tasks.batches.batch import Batch  # noqa: E402
from tasks.batches.chunk import CLOSED, RUNNING, UNSENT, Chunk  # noqa: E402
from tasks.batches.chunk_journal import ChunkJournal  # noqa: E402
from tasks.batches.sources import source_of  # noqa: E402
from tasks.batches.store import Store, open_store  # noqa: E402
from tasks.batches.submit import check_and_tally, submit  # noqa: E402
from tests.simulator import Simulator  # noqa: E402
from workers.config.settings import Settings, load  # noqa: E402
from workers.figures import dollars  # noqa: E402

TICKETS = Path(__file__).with_name("tickets.jsonl")

#: Minutes that a second stands for.
MINUTES = 10

#: Seconds until the deadline: eight hours.
DEADLINE = 8 * 60 / MINUTES

#: A ticket of the provider batch that the provider does not get to.
SLOW = "Photos uploaded from my phone"

#: Prices of gpt-4o-mini. The queue takes two provider batches of some ten tickets.
CONFIG = f"""
[providers.simulated]
api               = "openai"
base_url          = "env:PROVIDER_URL"
batch_poll        = 0.1
batch_cancel_time = {30 / MINUTES}

[providers.simulated.models.small]
rpm                   = 1000
input_usd_per_mtok    = 0.15
output_usd_per_mtok   = 0.60
batch_enqueued_tokens = 16_000

[workflows.live]
budget_usd = 0.10

[workflows.by-lanes]
budget_usd     = 0.10
lanes          = ["batch", "live"]
deadline       = {DEADLINE}
batch_min_time = {30 / MINUTES}
"""

console = Console(highlight=False)


def main() -> None:
    """Run both batches and compare them."""
    fault = {"mode": "queued", "seconds": 86_400 / 60 / MINUTES, "job": SLOW}
    with (
        tempfile.TemporaryDirectory() as folder,
        Simulator(
            batch_delay=[0.7, 6.0], batch_faults=[fault], latency=[0.01, 0.03], answer_tokens=[15, 30]
        ) as provider,
    ):
        os.environ["PROVIDER_URL"] = f"{provider.base_url}/v1"
        config = Path(folder, "overnight.toml")
        config.write_text(CONFIG)
        settings = load(config)
        store = open_store(settings)
        begin(settings, store)
        with worker(config, store):
            live, lanes = watch(settings, store)
            compare(live, lanes, ChunkJournal(store, lanes.id).all())
        store.client.close()


def begin(settings: Settings, store: Store) -> None:
    """Say what this is, and what the lanes would cost."""
    _, tally = check_and_tally(source_of(str(TICKETS)), settings, store, workflow="by-lanes")
    console.print("60 support tickets, twice: live, and by lanes within 8 hours.")
    console.print("The provider is simulated on this machine. [bold]One second stands for ten minutes,[/]")
    console.print("also if this machine is busy: a live call takes less with a real provider.\n")
    forecast = tally.forecast()
    assert forecast.lanes is not None
    both = f"{dollars(forecast.cost or 0)} live, {dollars(forecast.lanes.cost or 0)} by lanes"
    console.print(f"estimate  {both}, before any answer is known\n")


@contextmanager
def worker(config: Path, store: Store) -> Iterator[None]:
    """A worker, once it is ready."""
    log = config.with_name("worker.log")
    with log.open("wb") as words:
        command = [sys.executable, "-m", "tasks", "worker", "--config", str(config)]
        process = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=words, stderr=words)
    try:
        while not store.client.info("clients")["blocked_clients"]:
            if process.poll() is not None:
                sys.exit(f"the worker did not start:\n{log.read_text()}")
            time.sleep(0.05)
        yield
    finally:
        process.terminate()
        process.wait()


def watch(settings: Settings, store: Store) -> tuple[Batch, Batch]:
    """Submit the tickets twice, and print what happens until both batches have ended."""
    live, _ = submit(str(TICKETS), settings, store, workflow="live")
    lanes, _ = submit(str(TICKETS), settings, store, workflow="by-lanes")
    began, seen = lanes.began, dict[str, str]()
    was_over = False
    while not (live.over and lanes.over):
        time.sleep(0.05)
        live, lanes = (store.batch(each.id) or each for each in (live, lanes))
        if live.over and not was_over:
            said(
                live.ended - live.began,
                f"[cyan]live[/]   all {live.completed} tickets are answered for {dollars(live.cost)}",
            )
        was_over = live.over
        for chunk in ChunkJournal(store, lanes.id).all():
            words = news(chunk)
            if words and seen.get(chunk.id) != words:
                said(time.time() - began, f"[green]lanes[/]  chunk {chunk.number + 1}, {words}")
                seen[chunk.id] = words
    said(lanes.ended - began, f"[green]lanes[/]  all {lanes.completed} tickets are answered for {dollars(lanes.cost)}")
    return live, lanes


def news(chunk: Chunk) -> str:
    """What to say of a chunk as it is; '' if there is nothing to say."""
    tickets = f"{chunk.lines} tickets"
    if chunk.state in UNSENT and chunk.trouble:
        return f"{tickets}: waits for room in the queue"
    if chunk.state == RUNNING:
        late = f"{tickets}: [yellow]its latest moment has come, cancelled[/]"
        return late if chunk.cancelled_at else f"{tickets}: {chunk.provider_batch} is at the provider"
    if chunk.state != CLOSED:
        return ""
    if chunk.returned:
        return f"{tickets}: {chunk.completed} have come back, [yellow]{chunk.returned} are called live[/]"
    return f"{tickets}: answered at half the price"


def said(seconds: float, words: str) -> None:
    """Print what has happened after so much time, as it would be with real providers."""
    console.print(f"{span(seconds):>10}  {words}")


def span(seconds: float) -> str:
    """Seconds of this run as the hours and minutes that they stand for."""
    hours, minutes = divmod(round(seconds * MINUTES), 60)
    return f"{hours} h {minutes:02} min" if hours else f"{minutes} min"


def compare(live: Batch, lanes: Batch, chunks: list[Chunk]) -> None:
    """The two batches side by side."""
    found = lane_report.report(lanes, chunks)
    table = Table("", "live", 'lanes = ["batch", "live"]', box=None, padding=(0, 3, 0, 0), title_justify="left")
    answered = f"{lanes.completed}: {found.completed} by batch, {lanes.completed - found.completed} live"
    table.add_row("answered", str(live.completed), answered)
    table.add_row("failed", str(live.failed), str(lanes.failed))
    table.add_row("cost", dollars(live.cost), dollars(lanes.cost))
    table.add_row("saved", "", f"[bold]{1 - lanes.cost / live.cost:.0%}[/]")
    table.add_row("done after", span(live.ended - live.began), f"{span(lanes.ended - lanes.began)}, of 8 hours")
    million = [dollars(batch.cost * 1_000_000 // batch.total) for batch in (live, lanes)]
    table.add_row("a million such tickets", *million)
    console.print()
    console.print(table)


if __name__ == "__main__":
    main()
