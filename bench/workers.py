"""What a job costs its worker: jobs a second and CPU a job, against a provider of 50 ms without quotas.

Overnight with everything on (admission against quota and budget, the job's lease, events, results) beside stock
Celery and a bare event loop; then 3,000 calls of 20 s at a time in one worker process. CPU is what /proc says of
the client's processes, all of them; the provider's is not counted, Redis's is listed apart.

    python bench/workers.py [overnight] [gevent] [prefork] [bare] [in-flight] [--jobs N] [--report FILE]
"""

import argparse
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil

ROOT = Path(__file__).resolve().parents[1]
if __name__ == "__main__":
    sys.path[0] = str(ROOT)  # instead of this folder, whose `workers` is this file

# The repository is not on the path of a script.
from bench.report_file import publish  # noqa: E402
from bench.workers_figures import LATENCY, Figures, InFlight, report  # noqa: E402
from limits.client.connection import Server  # noqa: E402
from tasks.batches.store import Store  # noqa: E402
from tests.simulator import Simulator  # noqa: E402
from tests.support.site import Site, jobs, wait_for  # noqa: E402

CONTENDERS = ROOT / "bench" / "contenders"
PYTHON = Path(os.environ.get("CONTENDERS_PYTHON", ROOT / ".venv" / "contenders" / "bin" / "python"))

WARM_UP = 300
#: Numbers of a contender's jobs to warm up with; one that comes late is not measured.
WARMING, FIRST_WARMING = re.compile(r"number 1\d{7}\b"), 10_000_000
#: Seconds without a request after which a contender is taken to have left the rest of its jobs lying.
STALLED = 30.0

QUOTA = "rpm = 10_000_000\ntpm = 10_000_000_000\ninput_usd_per_mtok = 0.15\noutput_usd_per_mtok = 0.60"
BUDGET = "[workflows.bench]\nbudget_usd = 1_000_000"


def processes(pid: int) -> list[psutil.Process]:
    process = psutil.Process(pid)
    return [process, *process.children(recursive=True)]


def cpu_of(pids: list[int]) -> float:
    """CPU seconds of these processes and their children."""
    return sum(sum(p.cpu_times()[:2]) for pid in pids for p in processes(pid))


def memory_of(pids: list[int]) -> float:
    return max(p.memory_info().rss for pid in pids for p in processes(pid)) / 1e6


def measured(
    name: str, simulator: Simulator, pids: list[int], redis: int | None, count: int, work: Callable[[], object]
) -> Figures:
    """Have the work done, and say what it cost."""
    simulator.clear()
    servers = [redis] if redis else []
    before, before_redis = cpu_of(pids), cpu_of(servers)
    work()
    after, after_redis = cpu_of(pids), cpu_of(servers)
    entries = answers(simulator)
    answered = len({entry["job"] for entry in entries})
    seconds = max(e["at"] + e["seconds"] for e in entries) - min(e["at"] for e in entries)
    cpu, redis_cpu = (after - before) / answered * 1e3, (after_redis - before_redis) / answered * 1e3
    again, missing = len(entries) - answered, count - answered
    return Figures(name, answered, seconds, cpu, redis_cpu, memory_of(pids), again, missing)


def answers(simulator: Simulator) -> list[dict[str, Any]]:
    """What the provider has answered of the jobs that are measured."""
    return [each for each in simulator.journal() if each["status"] == 200 and not WARMING.search(each["job"])]


def done(site: Site, batch: str, count: int, seconds: float = 300.0) -> None:
    store = Store(site.keys, Server(site.client()))
    wait_for(lambda: (found := store.batch(batch)) and found.completed == count, seconds, every=0.1, what="the batch")


@contextmanager
def overnight(folder: Path, simulator: Simulator, concurrency: int) -> Iterator[tuple[Site, int]]:
    """A site with one worker process, as `overnight run` starts it, with events on."""
    with Site(folder, simulator, model=QUOTA, tables=BUDGET) as site:
        program = "workers.celery_worker"
        worker = site.start_worker("-E", "-l", "WARNING", concurrency=concurrency, ready=False, program=program)
        time.sleep(1.0)
        batch = site.submit(jobs(WARM_UP), workflow="bench")
        done(site, batch, WARM_UP)
        yield site, worker.pid


def run_overnight(folder: Path, simulator: Simulator, count: int) -> Figures:
    with overnight(folder, simulator, 200) as (site, pid):

        def work() -> None:
            done(site, site.submit(jobs(count), workflow="bench"), count)

        figures = measured("Overnight", simulator, [pid], site.redis_pid(), count, work)
        assert not figures.missing, f"{figures.missing} jobs were not answered"
        assert not figures.again, f"{figures.again} calls were made twice"
        return figures


def stock(pool: str, concurrency: int) -> Callable[[Path, Simulator, int], Figures]:
    """A run of stock Celery on one of its pools."""

    def run(folder: Path, simulator: Simulator, count: int) -> Figures:
        with Site(folder, simulator) as site:
            site.run("check", status=None)  # starts the server
            keeper = site.client()
            keeper.ping()
            environment = os.environ | {"BENCH_REDIS": site.redis_url(), "BENCH_PROVIDER": simulator.base_url}
            worker = subprocess.Popen(
                [
                    *(str(PYTHON), "-m", "celery", "-A", "stock", "worker", "-P", pool, "-c", str(concurrency)),
                    *("-E", "-l", "WARNING", "--without-mingle", "--without-gossip"),
                ],
                cwd=CONTENDERS,
                env=environment,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
            )

            def publish(first: int, tasks: int) -> None:
                command = [str(PYTHON), "publish.py", str(first), str(tasks)]
                subprocess.run(command, cwd=CONTENDERS, env=environment, check=True)
                wait_for_answers(simulator, first, tasks)
                time.sleep(0.5)  # the last results are stored

            try:
                publish(FIRST_WARMING, WARM_UP)
                return measured(
                    f"Celery, {pool}, httpx.Client",
                    simulator,
                    [worker.pid],
                    site.redis_pid(),
                    count,
                    lambda: publish(0, count),
                )
            finally:
                worker.terminate()
                worker.wait(60)

    return run


def wait_for_answers(simulator: Simulator, first: int, tasks: int) -> None:
    """Until all are answered, or none has been asked for in a while: stock Celery finds some again after an hour."""
    requests, since = 0, time.monotonic()
    while time.monotonic() - since < STALLED:
        stats = simulator.stats()
        # Late ones of the warm-up are among them.
        if stats["jobs_answered"] >= tasks and (
            first == FIRST_WARMING or len({each["job"] for each in answers(simulator)}) >= tasks
        ):
            return
        if stats["requests"] != requests:
            requests, since = int(stats["requests"]), time.monotonic()
        time.sleep(0.2)


def run_bare(folder: Path, simulator: Simulator, count: int) -> Figures:
    """A process that does nothing else, so all of its CPU counts, its start too: less what that takes without jobs."""
    del folder

    def run(calls: int) -> float:
        before = os.times()
        subprocess.run([sys.executable, str(CONTENDERS / "bare.py"), simulator.base_url, str(calls), "200"], check=True)
        after = os.times()
        return after.children_user + after.children_system - before.children_user - before.children_system

    start = run(0)
    simulator.clear()
    cpu = run(count) - start
    entries = simulator.journal()
    seconds = max(e["at"] + e["seconds"] for e in entries) - min(e["at"] for e in entries)
    return Figures("bare asyncio, aiohttp", count, seconds, cpu / count * 1e3, 0.0, 0.0)


RUNS: dict[str, tuple[Callable[[Path, Simulator, int], Figures], float]] = {
    "overnight": (run_overnight, 1.0),
    "gevent": (stock("gevent", 200), 0.25),
    "prefork": (stock("prefork", 16), 0.25),
    "bare": (run_bare, 1.0),
}


def run_in_flight(folder: Path, calls: int = 3000, seconds: float = 20.0) -> InFlight:
    with Simulator(latency=0.0) as simulator, overnight(folder, simulator, calls) as (site, pid):
        simulator.configure(latency=seconds)
        simulator.clear()
        batch = site.submit(jobs(calls), workflow="bench")
        peak, most = 0.0, 0
        store = Store(site.keys, Server(site.client()))
        while (found := store.batch(batch)) is None or found.completed < calls:
            peak = max(peak, memory_of([pid]))
            most = max(most, int(simulator.stats()["in_flight"]))
            time.sleep(0.5)
        entries = simulator.journal()
        assert len(entries) == calls
        took = max(e["at"] + e["seconds"] for e in entries) - min(e["at"] for e in entries)
        return InFlight(calls, took, most, peak)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("runs", nargs="*", default=[*RUNS, "in-flight"])
    parser.add_argument("--jobs", type=int, default=6000)
    parser.add_argument("--times", type=int, default=3)
    parser.add_argument("--report", type=Path)
    arguments = parser.parse_args()
    found: dict[str, list[Figures]] = {}
    flight = None
    with tempfile.TemporaryDirectory() as folder:
        for turn in range(arguments.times):
            for name in arguments.runs:
                if name not in RUNS:
                    continue
                run, share = RUNS[name]
                with Simulator(latency=LATENCY) as simulator:
                    figures = run(Path(folder) / f"{name}-{turn}", simulator, int(arguments.jobs * share))
                found.setdefault(name, []).append(figures)
                print(
                    f"{figures.name}: {figures.rate:,.0f} jobs/s, {figures.cpu:.2f} ms, Redis {figures.redis:.2f} ms, "
                    f"{figures.memory:.0f} MB",
                    flush=True,
                )
        if "in-flight" in arguments.runs:
            flight = run_in_flight(Path(folder) / "in-flight")
            print(flight, flush=True)
    text = report(found, flight)
    publish(text, arguments.report)


if __name__ == "__main__":
    main()
