"""What durability costs: a call in an agent beside a plain job, on the same worker and the same provider.

A plain job is one call with a lease, an admission, a settlement and a result of its own. An agent's call has an
admission, and a settlement that writes its journal entry in the same step; lease and result are shared by its job's
calls. Both run on one real worker process against a provider of 50 ms without quotas. CPU is what /proc says of the
worker and of Redis; calls of scripts are Redis's own count.

    python bench/agents.py [--calls N] [--times N] [--report FILE]
"""

import argparse
import platform
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import psutil

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from bench.report_file import publish  # noqa: E402
from tests.simulator import Simulator  # noqa: E402
from tests.support.agents import line  # noqa: E402 - the repository is not on the path of a script
from tests.support.site import Site, jobs  # noqa: E402

CALLS_A_JOB = 10
MODEL = "input_usd_per_mtok = 0.15\noutput_usd_per_mtok = 0.60"
MORE = 'agents = ["tests.support.agents"]'
KINDS = {
    "plain jobs": "one call each",
    "agents": f"{CALLS_A_JOB} calls each, one after the other",
}


@dataclass(frozen=True)
class Figures:
    """One run, a call: ms of CPU in the worker and in Redis, scripts called, bytes of Redis memory at the end."""

    worker: float
    redis: float
    scripts: float
    rate: float


def cpu_of(pid: int) -> float:
    return sum(psutil.Process(pid).cpu_times()[:2])


def scripts_called(site: Site) -> int:
    stats: Any = site.client().info("commandstats")
    return sum(stats.get(f"cmdstat_{name}", {}).get("calls", 0) for name in ("evalsha", "eval"))


def measured(site: Site, lines: list[dict[str, Any]], calls: int) -> Figures:
    """Run lines as a batch, and say what each call has cost."""
    pid, redis = site.workers[0].pid, site.redis_pid()
    before = cpu_of(pid), cpu_of(redis), scripts_called(site)
    began = time.monotonic()
    batch = site.submit(lines, "--new", workflow="bench")
    status = site.wait(batch, 300)
    seconds = time.monotonic() - began
    assert status["request_counts"]["failed"] == 0, status
    after = cpu_of(pid), cpu_of(redis), scripts_called(site)
    worker, server, scripts = (now - then for now, then in zip(after, before, strict=True))
    return Figures(1000 * worker / calls, 1000 * server / calls, scripts / calls, calls / seconds)


def runs(calls: int, times: int) -> dict[str, list[Figures]]:
    """Both kinds in turns, so that what else the machine does befalls both."""
    found: dict[str, list[Figures]] = {kind: [] for kind in KINDS}
    with (
        Simulator(latency=0.05) as simulator,
        tempfile.TemporaryDirectory() as folder,
        Site(Path(folder), simulator, more=MORE, model=MODEL) as site,
    ):
        site.start_worker(concurrency=200)
        measured(site, [*jobs(300), line("chain", 1_000, calls=3)], 303)
        for _ in range(times):
            found["plain jobs"].append(measured(site, jobs(calls), calls))
            agents = [line("chain", number, calls=CALLS_A_JOB) for number in range(calls // CALLS_A_JOB)]
            found["agents"].append(measured(site, agents, calls))
            for kind, figures in found.items():
                print(kind, figures[-1], flush=True)
    return found


def report(found: dict[str, list[Figures]], calls: int) -> str:
    times = len(found["agents"])
    rows = [
        "# What a call costs in an agent",
        "",
        f"`python bench/agents.py --calls {calls} --times {times}`, {platform.python_implementation()} "
        f"{platform.python_version()}, {psutil.cpu_count()} CPUs, {time.strftime('%Y-%m-%d', time.gmtime())}. One "
        f"worker process, a provider of 50 ms; medians of {times} runs of {calls:,} calls, the kinds in turns.",
        "",
        "| | worker CPU a call | Redis CPU a call | scripts a call | calls/s |",
        "|---|--:|--:|--:|--:|",
    ]
    middle: dict[str, Figures] = {}
    for kind, figures in found.items():
        middle[kind] = Figures(
            *(median(getattr(each, name) for each in figures) for name in ("worker", "redis", "scripts", "rate"))
        )
        one = middle[kind]
        told = f"{one.worker:.2f} ms | {one.redis:.2f} ms | {one.scripts:.2f} | {one.rate:,.0f}"
        rows.append(f"| {kind}, {KINDS[kind]} | {told} |")
    plain, agent = middle["plain jobs"], middle["agents"]
    rows += [
        "",
        f"A call in an agent takes {agent.worker / plain.worker:.2f} times the worker's CPU of a plain job, "
        f"{agent.redis / plain.redis:.2f} times Redis's, and {agent.scripts / plain.scripts:.2f} times the scripts: "
        "its journal entry is written in the step that settles it, and one lease and one result serve all calls of a "
        "job. Scripts count those of transport, feeder and collector, too; round trips are shared among the "
        "jobs in flight, and are fewer.",
        "",
    ]
    return "\n".join(rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--calls", type=int, default=3_000)
    parser.add_argument("--times", type=int, default=3)
    parser.add_argument("--report", type=Path, default=ROOT / "bench" / "results" / "agents.md")
    arguments = parser.parse_args()
    found = runs(arguments.calls, arguments.times)
    text = report(found, arguments.calls)
    publish(text, arguments.report)


if __name__ == "__main__":
    main()
