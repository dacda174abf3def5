"""What idle workers cost, and how soon a job starts: ten workers that follow 200 queues, and no jobs.

python bench/idle.py [--workers N] [--queues N] [--seconds S] [--report FILE]
"""

import argparse
import os
import platform
import random
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import psutil
from celery import Celery

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from bench.report_file import publish  # noqa: E402
from tests.simulator import Simulator  # noqa: E402 - the repository is not on the path of a script
from tests.support.site import Site, job, wait_for  # noqa: E402
from workers.transport.queues import register  # noqa: E402

TRIES = 20


def cpu(pids: list[int]) -> list[float]:
    return [sum(psutil.Process(pid).cpu_times()[:2]) for pid in pids]


def started(simulator: Simulator, send: Callable[[int], object]) -> list[float]:
    """Seconds from publishing a job to its call, one at a time, with idle workers before each."""
    waits = []
    for number in range(TRIES):
        time.sleep(random.uniform(1.0, 1.5))
        simulator.clear()
        sent = time.time()
        send(number)
        wait_for(simulator.journal, 10.0, every=0.02)
        waits.append(simulator.journal()[0]["wall"] - sent)
    return sorted(waits)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--workers", type=int, default=10)
    parser.add_argument("--queues", type=int, default=200)
    parser.add_argument("--seconds", type=float, default=30.0)
    parser.add_argument("--report", type=Path)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, Simulator() as simulator, Site(Path(folder), simulator) as site:
        for _ in range(arguments.workers):
            site.start_worker()
        client = site.client()
        for number in range(arguments.queues - 1):
            register(client, site.keys, f"idle-{number}")
        os.environ |= {"OVERNIGHT_CONFIG": str(site.file), "ACME_KEY": site.environment["ACME_KEY"]}
        from workers.celery import app  # noqa: PLC0415 - its configuration is the site's

        url = site.redis_url()
        stock = Celery("plain", broker=url, backend=url, broker_transport="kombu.transport.redis:Transport")

        def ours(number: int) -> None:
            app.send_task("overnight.job", kwargs={"job": job(number)}, queue="workflow.idle-7")

        def plain(number: int) -> None:
            stock.send_task("overnight.job", kwargs={"job": job(number + 1000)}, queue="workflow.idle-9")

        for number in range(arguments.workers * 2):  # every worker has its connections
            ours(10_000 + number)
            plain(20_000 + number)
        time.sleep(10.0)

        pids = [worker.pid for worker in site.workers]
        redis_before = cpu([site.redis_pid()])[0]
        before = cpu(pids)
        time.sleep(arguments.seconds)
        after = cpu(pids)
        redis_after = cpu([site.redis_pid()])[0]
        shares = sorted((b - a) / arguments.seconds * 100 for a, b in zip(before, after, strict=True))
        first, second = started(simulator, ours), started(simulator, plain)
    text = "\n".join(
        [
            "# Idle workers",
            "",
            f"`make bench-idle`, {os.cpu_count()} cores, Python {platform.python_version()}; all on one machine.",
            "",
            f"{arguments.workers} workers that follow {arguments.queues} queues, no jobs, {arguments.seconds:.0f} s.",
            "",
            "| | median | most |",
            "|---|---|---|",
            f"| CPU of a worker | {median(shares):.2f} % | {shares[-1]:.2f} % |",
            f"| CPU of Redis | {(redis_after - redis_before) / arguments.seconds * 100:.2f} % | |",
            f"| publishing to call, our producer | {median(first) * 1000:.0f} ms | {first[-1] * 1000:.0f} ms |",
            f"| publishing to call, a stock producer | {median(second) * 1000:.0f} ms | {second[-1] * 1000:.0f} ms |",
            "",
        ]
    )
    publish(text, arguments.report)


if __name__ == "__main__":
    main()
