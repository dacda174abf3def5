"""How many whole jobs a second one Redis carries, and what each step costs it: 1 to 64 workers without HTTP.

The workers (bench/scale_driver.py) run in a few processes, since one cannot keep Redis busy. Batches are submitted,
fed and collected as ever. The server writes its append-only file at every step, as the embedded one does. CPU of
Redis is what the kernel counts of its process: scripts, sockets and the file.

    python bench/scale.py [--lines N] [--workers 1 4 16 64] [--drivers N] [--report bench/results/scale.md]
"""

import argparse
import asyncio
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

ROOT = Path(__file__).resolve().parents[1]
sys.path[0] = str(ROOT)  # instead of this folder, whose `workers` is another

from bench.report_file import publish  # noqa: E402
from limits.client.connection import Server  # noqa: E402 - the repository is not on the path of a script
from tests.simulator import Simulator  # noqa: E402
from tests.support.site import Site, jobs, wait_for  # noqa: E402

DRIVER = ROOT / "bench" / "scale_driver.py"
#: Jobs in flight in all workers together, and in one worker at most: without HTTP, more would only wait for Redis.
IN_FLIGHT, MOST_PLACES = 256, 64
#: How many jobs take a step at the same time in the second column of steps.
TOGETHER = 32
#: Characters of a prompt: lines of about 1 KB.
PROMPT = "the printer on floor three is out of order again and nobody knows since when " * 10


@dataclass(frozen=True)
class Load:
    """A run. `busy`: the share of a core that Redis used; CPU in µs a job, of Redis and of the drivers."""

    workers: int
    rate: float
    busy: float
    redis: float
    drivers: float


@dataclass(frozen=True)
class Step:
    """What a step costs Redis in µs a job, of that in scripts; and the mean of one script call (`usec_per_call`)."""

    name: str
    cpu: float
    script: float
    per_call: float


class Meter:
    """What one Redis has used since the last question."""

    def __init__(self, site: Site) -> None:
        self.client, self.pid = site.client(), site.redis_pid()
        self.used = self.cpu()

    def cpu(self) -> float:
        """CPU of its process so far, in µs."""
        threads = Path(f"/proc/{self.pid}/task").iterdir()
        return sum(int((each / "schedstat").read_text().split()[0]) for each in threads) / 1e3

    def scripts(self) -> tuple[float, int]:
        """Time in scripts in µs and their number, since `begin`."""
        found: dict[str, Any] = self.client.info("commandstats")
        rows = [found[name] for name in ("cmdstat_evalsha", "cmdstat_eval") if name in found]
        return sum(row["usec"] for row in rows), sum(row["calls"] for row in rows)

    def begin(self) -> None:
        self.client.config_resetstat()
        self.used = self.cpu()

    def step(self, name: str, count: int) -> Step:
        """What `count` jobs have used since `begin`."""
        cpu = self.cpu() - self.used
        script, calls = self.scripts()
        return Step(name, cpu / count, script / count, script / max(calls, 1))


def submitted(site: Site, count: int, name: str) -> str:
    """A batch of `count` lines; the same name again would be the same batch."""
    return site.submit(jobs(count, text=f"{name}: {PROMPT}"), workflow="bench")


@contextmanager
def drivers(url: str, workers: int, processes: int, places: int, site: Site) -> Iterator[list[int]]:
    """Run `workers` workers in a few processes. Yields the processes' ids."""
    shares = [workers // processes + (number < workers % processes) for number in range(processes)]
    started = [
        subprocess.Popen(
            [sys.executable, str(DRIVER), url, str(share), str(places), f"{workers}-{number}-"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
            env=site.environment,
        )
        for number, share in enumerate(shares)
        if share
    ]
    try:
        for each in started:
            assert each.stdout is not None
            assert each.stdout.readline().strip() == "ready", "a driver did not start"
        tell(started)
        yield [each.pid for each in started]
        tell(started)
        for each in started:
            assert each.wait(60) == 0, "a driver failed"
    finally:
        for each in started:
            if each.poll() is None:
                each.kill()
            each.communicate()


def tell(started: list["subprocess.Popen[str]"]) -> None:
    for each in started:
        assert each.stdin is not None
        each.stdin.write("go\n")
        each.stdin.flush()


def loaded(site: Site, workers: int, processes: int, lines: int) -> Load:
    """Run a batch; what is measured lies between a tenth and nine tenths of it."""
    client, meter = site.client(), Meter(site)
    places = max(1, min(MOST_PLACES, IN_FLIGHT // workers))
    record = site.keys.batch(submitted(site, lines, f"{workers} workers"))

    def done() -> int:
        return int(client.hget(record, "completed") or 0)  # type: ignore[arg-type]

    def used(pids: list[int]) -> tuple[float, int, float, float]:
        cpu = sum(sum(psutil.Process(pid).cpu_times()[:2]) for pid in pids)
        return time.monotonic(), done(), meter.cpu(), cpu * 1e6

    with drivers(site.redis_url(), workers, min(workers, processes), places, site) as pids:
        wait_for(lambda: done() >= lines * 0.1, 120, every=0.01)
        before = used(pids)
        wait_for(lambda: done() >= lines * 0.9, 120, every=0.01)
        seconds, count, redis, cpu = (now - then for now, then in zip(used(pids), before, strict=True))
        count = max(count, 1)  # a small batch may end between two looks
        wait_for(lambda: client.hget(record, "status") == b"completed", 60, what="the end of the batch")
    assert done() == lines, f"{done()} of {lines} jobs have ended"
    return Load(workers, count / seconds, redis / seconds / 1e6, redis / count, cpu / count)


async def stepwise(site: Site, batch: str, together: int) -> list[Step]:
    """Each step of every job of a batch before the next step, so that the server's counts are those of one step."""
    from bench.scale_driver import Worker  # noqa: PLC0415 - imports the site's configuration
    from tasks.batches.store import Store  # noqa: PLC0415 - as above
    from tasks.batches.ticks import run_tick  # noqa: PLC0415 - as above

    store, meter = Store(site.keys, Server(site.client())), Meter(site)
    found = store.batch(batch)
    assert found is not None
    count = found.total
    with connection() as events:
        worker, steps, claimed = Worker(site.redis_url(), together, f"steps-{together}", events), [], []

        async def each(name: str, do: Callable[[int], Awaitable[Any]]) -> None:
            meter.begin()
            for start in range(0, count, together):
                await do(start)
            steps.append(meter.step(name, count))

        def of_all(step: Callable[[Any], Awaitable[None]]) -> Callable[[int], Awaitable[Any]]:
            return lambda at: asyncio.gather(*(step(job) for _, job in claimed[at : at + together]))

        async def claim(start: int) -> None:
            del start
            claimed.extend(await worker.claim(together))

        async def publish(start: int) -> None:
            assert worker.events is not None
            for _, job in claimed[start : start + together]:
                worker.events.ended(job)
            worker.events.flush()

        meter.begin()
        run_tick(store, f"feed:{batch}")
        steps.append(meter.step("feed", count))
        await each("claim", claim)
        await each("begin", of_all(worker.begin))
        await each("admit", of_all(worker.admit))
        await each("finish", of_all(worker.finish))
        await each("acknowledge", lambda at: worker.acknowledge([tag for tag, _ in claimed[at : at + together]]))
        await each("events", publish)
        await worker.close()
    meter.begin()
    wait_for(lambda: run_tick(store, f"collect:{batch}") is None, 30.0, every=0.0, what="the end of the batch")
    return [*steps, meter.step("collect", count)]


@contextmanager
def connection() -> Iterator[Any]:
    from workers.celery import app  # noqa: PLC0415 - its configuration is the site's

    with app.connection_for_write() as found:
        yield found


@contextmanager
def ticking() -> Iterator[None]:
    """Feed and collect batches, as each worker does."""
    from tasks.batches.store import open_store  # noqa: PLC0415 - imports the site's configuration
    from tasks.batches.ticker import Ticker  # noqa: PLC0415 - as above
    from workers.config.current import current_settings  # noqa: PLC0415 - as above

    ticker = Ticker(open_store(current_settings()))
    ticker.start()
    try:
        yield
    finally:
        ticker.stopping.set()
        ticker.join(10)


def report(loads: list[Load], alone: list[Step], together: list[Step]) -> str:
    total, joined = sum(step.cpu for step in alone), sum(step.cpu for step in together)
    least = min(load.redis for load in loads)
    lines = [
        "# What one Redis carries",
        "",
        f"`make bench-scale`, {os.cpu_count()} cores, Python {platform.python_version()}; Redis and drivers share the",
        "machine; appendfsync always. A whole job: fed, claimed, begun, admitted (quota, two budgets), finished,",
        "acknowledged, three events, collected. No HTTP.",
        "",
        "| workers | jobs/s | Redis, of a core | Redis a job | drivers a job |",
        "|---|---|---|---|---|",
        *(
            f"| {load.workers} | {load.rate:,.0f} | {load.busy:.0%} | {load.redis:,.0f} µs | {load.drivers:,.0f} µs |"
            for load in loads
        ),
        "",
        f"At {least:,.0f} µs a job, one core of Redis alone would carry {1e6 / least:,.0f} jobs a second.",
        "",
        f"What a step costs Redis, in µs a job: one job at a time, and {TOGETHER} at a time in one worker. In brackets",
        "the time in its scripts; the rest is sockets and the append-only file. A script call is `usec_per_call` of",
        f"`INFO commandstats`, {TOGETHER} at a time.",
        "",
        f"| step | one at a time | {TOGETHER} at a time | a script call |",
        "|---|---|---|---|",
        *(
            f"| {one.name} | {one.cpu:,.0f} ({one.script:,.0f}) | {many.cpu:,.0f} ({many.script:,.0f}) "
            f"| {many.per_call:,.0f} |"
            for one, many in zip(alone, together, strict=True)
        ),
        f"| all | {total:,.0f} ({sum(step.script for step in alone):,.0f}) "
        f"| {joined:,.0f} ({sum(step.script for step in together):,.0f}) | |",
    ]
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lines", type=int, default=8_000, help="jobs of each run; a tenth of them step by step")
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 4, 16, 64])
    parser.add_argument("--drivers", type=int, default=3, help="processes that the workers share")
    parser.add_argument("--report", type=Path)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, Simulator() as simulator, Site(Path(folder), simulator) as site:
        os.environ |= {"OVERNIGHT_CONFIG": str(site.file), "ACME_KEY": site.environment["ACME_KEY"]}
        site.run("check", status=None)  # starts the server
        few = min(2_000, arguments.lines // 10)  # what one tick feeds
        alone = asyncio.run(stepwise(site, submitted(site, few, "alone"), 1))
        together = asyncio.run(stepwise(site, submitted(site, few, "together"), TOGETHER))
        loads = []
        with ticking():
            for workers in arguments.workers:
                loads.append(loaded(site, workers, arguments.drivers, arguments.lines))
                print(f"{workers} workers: {loads[-1].rate:,.0f} jobs/s, Redis {loads[-1].redis:,.0f} µs", flush=True)
    text = report(loads, alone, together)
    publish(text, arguments.report)


if __name__ == "__main__":
    main()
