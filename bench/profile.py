"""Where a job's CPU goes in a busy worker: by thread, as the kernel counts it, and by line, as py-spy sees it.

    python bench/profile.py [--jobs N] [--lines N]

The share of a line is that of all samples in which its thread held the interpreter, inclusive of what it calls.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections import Counter, defaultdict
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[0] = str(ROOT)  # instead of this folder, whose `workers` is another

from bench.workers import PYTHON, done, overnight  # noqa: E402 - see above
from bench.workers_figures import LATENCY  # noqa: E402
from tests.simulator import Simulator  # noqa: E402
from tests.support.site import jobs  # noqa: E402

PY_SPY = PYTHON.with_name("py-spy")

#: What a stack of each thread holds that no other's does.
THREADS = {
    "asyncio-pool": ("fast_trace_task", "EventLoop._run"),
    "in flight": ("InFlight._run",),
    "ticker": ("Ticker.run",),
    "MainThread": ("asynloop",),
}


def names(pid: int) -> dict[int, str]:
    """Python's names of a process's threads, by the kernel's ids."""
    dump = subprocess.run([PY_SPY, "dump", "--json", "--pid", str(pid)], check=True, capture_output=True, text=True)
    return {thread["os_thread_id"]: thread["thread_name"] for thread in json.loads(dump.stdout)}


def cpu(pid: int) -> dict[int, float]:
    """CPU of each thread so far, in ms."""
    threads = Path(f"/proc/{pid}/task").iterdir()
    return {int(thread.name): int((thread / "schedstat").read_text().split()[0]) / 1e6 for thread in threads}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jobs", type=int, default=4000)
    parser.add_argument("--lines", type=int, default=25)
    arguments = parser.parse_args()
    with (
        tempfile.TemporaryDirectory() as folder,
        Simulator(latency=LATENCY) as simulator,
        overnight(Path(folder) / "site", simulator, 200) as (site, pid),
    ):
        time.sleep(1.0)
        before = cpu(pid)
        time.sleep(3.0)
        idle = {thread: (now - before.get(thread, now)) / 3.0 for thread, now in cpu(pid).items()}
        raw = Path(folder) / "samples"
        path = site.input(jobs(arguments.jobs))
        before, started = cpu(pid), time.monotonic()
        batch = site.run("submit", str(path), "-w", "bench").stdout.strip()
        record = ["record", "--gil", "--rate", "200", "--format", "raw", "--output", str(raw), "--duration", "10"]
        subprocess.run([PY_SPY, *record, "--pid", str(pid)], check=True, capture_output=True)
        done(site, batch, arguments.jobs)
        took, after, thread_names = time.monotonic() - started, cpu(pid), names(pid)
        samples = raw.read_text()
    print(f"{arguments.jobs} jobs\n")
    for thread, now in sorted(after.items()):
        each = (now - before.get(thread, 0.0) - idle.get(thread, 0.0) * took) / arguments.jobs
        if each > 0.003:
            print(f"{each:6.3f} ms a job  {thread_names.get(thread, thread)}")
    print(f"{sum(idle.values()):6.1f} ms a second idle\n")
    lines: dict[str, Counter[str]] = defaultdict(Counter)
    totals: Counter[str] = Counter()
    for sample in samples.splitlines():
        stack, _, count = sample.rpartition(" ")
        thread = next((name for name, marks in THREADS.items() if any(mark in stack for mark in marks)), "other")
        totals[thread] += int(count)
        for frame in set(stack.split(";")):
            lines[thread][frame] += int(count)
    for thread, total in totals.most_common():
        print(f"{thread}: {total} samples")
        for frame, count in lines[thread].most_common(arguments.lines):
            print(f"  {count / total:5.1%}  {frame}")


if __name__ == "__main__":
    main()
