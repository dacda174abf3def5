"""How much of a quota is used, and how many 429s it costs: Overnight beside Celery with the usual limiters.

A strict provider allows 1,200 requests and 600,000 tokens a minute, counted in one of three ways: a bucket that refills
continuously and holds a minute, a sixtieth each second, or the last sixty seconds. Four worker processes send it 3,000
jobs. The ideal is the shortest wall time that this way of counting allows, with a quota that is full at the start.

    python bench/quota.py [--quick] [--only NAME …] [--beside N] [--report bench/results/quota.md]

Each run has a server and a provider of its own. One goes after the other: a contender takes more than a core, and two
side by side on two cores would measure that.
"""

import argparse
import os
import random
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from bench.quota_figures import (  # noqa: E402 - the repository is not on the path of a script
    CONTENDER,
    COUNTING,
    OVERNIGHT,
    RPM,
    TPM,
    WORKERS,
    Figures,
    Run,
    ideal,
    report,
)
from bench.report_file import publish  # noqa: E402
from tests.simulator import Simulator  # noqa: E402
from tests.support.site import Line, Site, job, wait_for  # noqa: E402

CONTENDERS = ROOT / "bench" / "contenders"
PYTHON = Path(os.environ.get("CONTENDERS_PYTHON", ROOT / ".venv" / "contenders" / "bin" / "python"))

LATENCY = (0.2, 0.8)


def lines_of(count: int) -> list[Line]:
    """Jobs of some 400 tokens each, as the provider counts them: the requests are what runs out first."""
    pick = random.Random(7)
    text = "Tell what this ticket is about: the printer on floor three is out of order again. "
    return [job(number, text=f"{number}: {text}", max_tokens=pick.randint(200, 600)) for number in range(count)]


def provider(run: Run) -> Simulator:
    model = {"rpm": RPM, "tpm": TPM, "counting": run.counting, "burst_s": 60.0, "tokens": "max"}
    return Simulator(models={"*": model}, latency=list(LATENCY), answer_tokens=[20, 200], headers=run.headers)


def measured(run: Run, folder: Path, count: int) -> Figures:
    with provider(run) as simulator:
        config = f"rpm = {RPM}\ntpm = {TPM}"
        with Site(folder, simulator, model=config, tables="[workflows.bench]\n") as site:
            site.run("check", status=None)  # starts the server
            client = site.client()
            with (overnight if run.who == OVERNIGHT else celery)(run, site, simulator) as (pids, publish):
                redis = psutil.Process(site.redis_pid())
                cpu, redis_cpu, commands = cpu_of(pids), sum(redis.cpu_times()[:2]), commands_of(client)
                began = time.monotonic()
                publish(lines_of(count))
                finish(simulator, count, began + limit(run, count))
                cpu, redis_cpu = cpu_of(pids) - cpu, sum(redis.cpu_times()[:2]) - redis_cpu
                commands = commands_of(client) - commands
        entries = simulator.journal()
        stats = simulator.stats()
    answers = [entry for entry in entries if entry["status"] == 200]
    wall = max(entry["at"] + entry["seconds"] for entry in answers) - min(entry["at"] for entry in entries)
    return Figures(
        run=run,
        jobs=count,
        answered=int(stats["jobs_answered"]),
        wall=wall,
        ideal=ideal(run.counting, count) + sum(LATENCY) / 2,
        refused=int(stats["statuses"].get("429", 0)),
        early=int(stats["early_jobs"]),
        cpu=cpu / count * 1e3,
        redis=redis_cpu / count * 1e3,
        commands=commands / count,
    )


def limit(run: Run, count: int) -> float:
    """A run that takes twice the ideal and a minute has lost jobs, or is as good as stalled."""
    return 2 * ideal(run.counting, count) + 60


def finish(simulator: Simulator, count: int, ends: float) -> None:
    while time.monotonic() < ends and simulator.stats()["jobs_answered"] < count:
        time.sleep(0.5)


@contextmanager
def overnight(run: Run, site: Site, simulator: Simulator) -> Iterator[Any]:
    """Four worker processes, warm: another model, with a quota of its own, was theirs to warm up with."""
    del run
    workers = [site.start_worker("-l", "WARNING", concurrency=400, ready=False) for _ in range(WORKERS)]
    time.sleep(5.0)
    site.submit([job(number, model="acme/warm") for number in range(200)], workflow="warm")
    wait_for(lambda: simulator.stats()["jobs_answered"] >= 200, 120, 0.5, what="warm workers")
    simulator.clear()
    yield [worker.pid for worker in workers], lambda lines: site.submit(lines, workflow="bench")


@contextmanager
def celery(run: Run, site: Site, simulator: Simulator) -> Iterator[Any]:
    """Four worker processes on gevent with a hundred greenlets each."""
    environment = os.environ | {
        "BENCH_REDIS": site.redis_url(),
        "BENCH_PROVIDER": simulator.base_url,
        "BENCH_RPM": str(RPM),
        "BENCH_TPM": str(TPM),
        "PACED_BY": run.who,
    }
    command = [str(PYTHON), "-m", "celery", "-A", "paced", "worker", "-P", "gevent", "-c", "100", "-l", "WARNING"]
    workers = [
        subprocess.Popen(
            [*command, "--without-mingle", "--without-gossip", "-n", f"w{number}@%h"],
            cwd=CONTENDERS,
            env=environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        for number in range(WORKERS)
    ]
    time.sleep(8.0)

    def publish(lines: list[Line]) -> None:
        path = site.input(lines)
        subprocess.run([str(PYTHON), "paced.py", str(path)], cwd=CONTENDERS, env=environment, check=True)

    try:
        yield [worker.pid for worker in workers], publish
    finally:
        for worker in workers:
            worker.kill()
            worker.wait()


def bare(folder: Path, *, redis: bool) -> float:
    """CPU of a call in ms of four bare loops that use the whole quota and do nothing else; with
    `redis`, four round trips a call.
    """
    rate, calls = RPM / 60 / WORKERS, RPM // WORKERS // 2
    with (
        Simulator(
            models={"*": {"rpm": 10**6, "tpm": 10**9}}, latency=list(LATENCY), answer_tokens=[20, 200]
        ) as simulator,
        Site(folder, simulator, model=f"rpm = {RPM}", tables="[workflows.bench]\n") as site,
    ):
        site.run("check", status=None)  # starts the server
        command = [sys.executable, str(CONTENDERS / "bare.py"), simulator.base_url, str(calls), "20", str(rate)]
        command += [site.redis_url()] if redis else []
        loops = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(WORKERS)]
        seconds = [float(loop.communicate()[0]) for loop in loops]
        assert simulator.stats()["statuses"].get("200") == WORKERS * calls, "a call of a bare loop failed"
    return sum(seconds) / WORKERS / calls * 1e3


def cpu_of(pids: list[int]) -> float:
    """CPU seconds of these processes and their children."""
    found = [each for pid in pids for each in (psutil.Process(pid), *psutil.Process(pid).children(recursive=True))]
    return sum(sum(each.cpu_times()[:2]) for each in found)


def commands_of(client: Any) -> int:
    return int(client.info("stats")["total_commands_processed"])


def plan(*, quick: bool) -> tuple[list[Run], list[Run]]:
    """Overnight's runs, and its contenders', which know nothing of headers."""
    ways = ["linear", "per-second"] if quick else list(COUNTING)
    ours = [Run(OVERNIGHT, counting, headers) for counting in ways for headers in (True, False)]
    theirs = [Run(who, counting, headers=True) for counting in ways for who in CONTENDER]
    return ours, theirs


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="half the jobs, two ways of counting")
    parser.add_argument("--jobs", type=int)
    parser.add_argument("--only", nargs="*", default=[], help="words that the names of the runs must hold")
    parser.add_argument("--beside", type=int, default=1, help="how many runs go side by side")
    parser.add_argument("--report", type=Path)
    arguments = parser.parse_args()
    count = arguments.jobs or (1_500 if arguments.quick else 3_000)
    found: list[Figures] = []
    lock = threading.Lock()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:  # its last server may still be stopping

        def go(run: Run) -> None:
            figures = measured(run, Path(folder) / run.name.replace(" ", "-"), count)
            with lock:
                found.append(figures)
                print(
                    f"{run.name}: {figures.utilisation:.1%} used, {figures.refused} 429s, {figures.early} early, "
                    f"{count - figures.answered} lost, {figures.cpu:.1f} ms, {figures.commands:.0f} commands",
                    flush=True,
                )

        for runs in plan(quick=arguments.quick):
            chosen = [run for run in runs if all(word in run.name for word in arguments.only)]
            with ThreadPoolExecutor(arguments.beside) as pool:
                list(pool.map(go, chosen))
        least = [bare(Path(folder) / f"bare-{redis}", redis=redis) for redis in (False, True)]
    text = report(found, (least[0], least[1]))
    publish(text, arguments.report)


if __name__ == "__main__":
    main()
