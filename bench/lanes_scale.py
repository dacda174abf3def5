"""A large batch by lanes in constant memory: a million lines through the Batch API of a provider on this machine.

python bench/lanes_scale.py [--lines 1000000] [--tokens 30000000] [--report bench/results/lanes-scale.md]
"""

import argparse
import json
import os
import platform
import sys
import tempfile
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import psutil

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from bench.report_file import publish  # noqa: E402
from tasks.batches.batch import from_hash  # noqa: E402 - the repository is not on the path of a script
from tasks.batches.chunk import CUT, Chunk, decode  # noqa: E402
from tests.simulator import Simulator  # noqa: E402
from tests.support.site import Site, wait_for  # noqa: E402

MB = 1 << 20

CONFIG = """
[workflows.large]
lanes = ["batch", "live"]
deadline = "48h"
budget_usd = 10_000
"""

#: OpenAI's limits of one provider batch.
MOST_LINES, MOST_BYTES = 50_000, 200_000_000


@dataclass(frozen=True)
class Mark:
    """What was seen at one moment: seconds, jobs that have ended, MB of Redis and of each worker, open chunks."""

    at: float
    done: int
    redis: float
    workers: tuple[float, ...]
    queued: int


@dataclass
class Run:
    """One batch. `tokens` may be in the provider's queue; `submit` is in seconds, `submit_peak` in MB."""

    lines: int
    tokens: int
    submit: float = 0.0
    submit_peak: float = 0.0
    seconds: float = 0.0
    worker_cpu: float = 0.0
    redis_cpu: float = 0.0
    marks: list[Mark] = field(default_factory=list)
    chunks: list[Chunk] = field(default_factory=list)
    completed: int = 0
    output: int = 0

    def at(self, part: float) -> Mark:
        """The first mark at which this part of the lines was done."""
        return next(mark for mark in self.marks if mark.done >= part * self.lines)

    @property
    def redis_peak(self) -> float:
        return max(mark.redis for mark in self.marks)

    @property
    def queued_peak(self) -> int:
        return max(mark.queued for mark in self.marks)


def write_lines(path: Path, count: int) -> None:
    """Chat jobs of about 250 bytes each."""
    body = {"model": "small", "messages": [{"role": "user", "content": ""}], "max_tokens": 50}
    line = {"custom_id": "", "method": "POST", "url": "/v1/chat/completions", "body": body}
    with path.open("w") as writing:
        for number in range(count):
            line["custom_id"] = f"job-{number}"
            body["messages"][0]["content"] = f"ticket {number}: the printer on floor three is out of order again"  # type: ignore[index]
            writing.write(json.dumps(line) + "\n")


def used(pids: list[int]) -> float:
    return sum(sum(psutil.Process(pid).cpu_times()[:2]) for pid in pids)


def measured(lines: int, tokens: int, *, shown: bool = False, delay: float = 5.0) -> Run:
    """Submit `lines` lines to two workers, wait for the end, and measure. `tokens`: what the provider's queue takes."""
    run = Run(lines, tokens)
    model = f"input_usd_per_mtok = 0.15\noutput_usd_per_mtok = 0.60\nbatch_enqueued_tokens = {tokens}"
    provider = 'batch_poll = "2s"'
    with (
        tempfile.TemporaryDirectory() as folder,
        Simulator(batch_delay=delay, answer_tokens=20, headers=False) as simulator,
        Site(Path(folder), simulator, model=model, provider=provider, tables=CONFIG) as site,
    ):
        path = Path(folder) / "in.jsonl"
        write_lines(path, lines)
        pids = [each.pid for each in site.start_workers(2, program="workers.celery_worker")]
        before = (used(pids), used([site.redis_pid()]))
        began = time.monotonic()
        batch = submitted(site, run, path)
        run.submit = time.monotonic() - began
        watch(site, run, batch, pids, began, shown=shown)
        run.seconds = time.monotonic() - began
        run.worker_cpu, run.redis_cpu = used(pids) - before[0], used([site.redis_pid()]) - before[1]
        output = Path(folder) / "out.jsonl"
        site.run("results", batch, "-o", str(output), seconds=600)
        with output.open("rb") as reading:
            run.output = len({json.loads(line)["custom_id"] for line in reading})
    return run


def submitted(site: Site, run: Run, path: Path) -> str:
    """Submit the file; returns the batch's id. Notes the highest memory of the command."""
    command = site.popen("submit", str(path), "-w", "large")
    while command.poll() is None:
        with suppress(psutil.NoSuchProcess):
            run.submit_peak = max(run.submit_peak, psutil.Process(command.pid).memory_info().rss / MB)
        time.sleep(0.1)
    words, trouble = command.communicate()
    assert command.returncode == 0, trouble
    return words.strip()


def watch(site: Site, run: Run, batch: str, pids: list[int], began: float, *, shown: bool) -> None:
    """Look every second, until the batch has ended and its chunks are closed."""
    client = site.client()

    def over() -> bool:
        record = from_hash(client.hgetall(site.keys.batch(batch)))
        assert record is not None
        assert not record.trouble, record.trouble
        run.chunks = sorted(map(decode, client.hgetall(site.keys.chunks(batch)).values()), key=lambda each: each.number)
        memory = client.info("memory")["used_memory"] / MB
        sizes = tuple(psutil.Process(pid).memory_info().rss / MB for pid in pids)
        queued = sum(each.tokens for each in run.chunks if each.holds)
        run.marks.append(Mark(time.monotonic() - began, record.done, memory, sizes, queued))
        run.completed = record.completed
        if shown:
            states = [each.state for each in run.chunks if each.state != "closed"]
            print(f"{run.marks[-1].at:7.1f} s {record.done:9,} {memory:5.1f} MB Redis, {sizes}, {states}", flush=True)
        return record.over and all(each.state == "closed" for each in run.chunks)

    wait_for(over, 7_200, every=1.0, what="the end of the batch")
    client.close()


def within_limits(run: Run) -> bool:
    """Whether every chunk was within the limits of a provider batch, and all together within the queue."""
    each = all(
        chunk.lines <= MOST_LINES and chunk.bytes <= MOST_BYTES and chunk.tokens <= run.tokens // 2
        for chunk in run.chunks
    )
    return each and run.queued_peak <= run.tokens and all(chunk.state != CUT for chunk in run.chunks)


def report(run: Run) -> str:
    """The report."""
    early, late = run.at(0.1), run.at(0.9)
    pace = (late.done - early.done) / (late.at - early.at)
    rows = [
        ("lines", f"{run.lines:,}"),
        ("answered by batch", f"{sum(chunk.completed for chunk in run.chunks):,}"),
        ("submit: checked, stored, queued", f"{run.lines / run.submit:,.0f} lines/s, {run.submit_peak:.0f} MB at most"),
        ("chunks", f"{len(run.chunks):,}, {max(chunk.lines for chunk in run.chunks):,} lines at most"),
        ("tokens in the provider's queue", f"{run.queued_peak:,} of {run.tokens:,} at most"),
        ("results recorded", f"{pace:,.0f} /s"),
        ("workers' CPU a job", f"{run.worker_cpu / run.lines * 1e3:.2f} ms"),
        ("CPU of Redis a job", f"{run.redis_cpu / run.lines * 1e3:.2f} ms"),
        ("Redis at its peak", f"{run.redis_peak:.0f} MB"),
        ("workers' memory at 10 %", ", ".join(f"{size:.0f} MB" for size in early.workers)),
        ("workers' memory at 90 %", ", ".join(f"{size:.0f} MB" for size in late.workers)),
        ("output lines, all different", f"{run.output:,}"),
        ("the whole", f"{run.seconds / 60:.1f} min"),
    ]
    return "\n".join(
        [
            "# A large batch by lanes",
            "",
            f"`make bench-lanes-scale`, {os.cpu_count()} cores, Python {platform.python_version()}; all on one machine, two workers.",
            "Lines of about 250 bytes, each answered through the Batch API of a simulated provider.",
            "",
            "| | |",
            "|---|---|",
            *(f"| {name} | {value} |" for name, value in rows),
            "",
        ]
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lines", type=int, default=1_000_000)
    parser.add_argument("--tokens", type=int, default=20_000_000, help="input tokens in the provider's queue")
    parser.add_argument("--report", type=Path)
    arguments = parser.parse_args()
    run = measured(arguments.lines, arguments.tokens, shown=True)
    assert run.output == arguments.lines, run.output
    assert within_limits(run)
    text = report(run)
    publish(text, arguments.report)


if __name__ == "__main__":
    main()
