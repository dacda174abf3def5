"""What the HTTP server adds to a live call, in CPU and latency, beside LiteLLM's proxy and a call without either.

The provider is the simulator. Each side is measured in two ways, with 50, 500 and 2,000 calls in flight, streamed or
not:

- busy: the provider takes 50 ms, and every client calls again at once. That is more than one process can carry, so the
  latency is that of a queue; the figures are calls a second and CPU a call.
- paced: the provider takes as long as it must for 50 calls a second (10 s with 500 in flight). The figure is the
  latency that the side adds to the provider's.

Both servers are one process. CPU is that of the server's process alone, in user and system mode; Overnight's Redis is
listed beside it. Every call of Overnight's is admitted, budgeted and settled; LiteLLM has no database and no limits.

    python bench/server.py [--seconds N] [--in-flight 50 500 2000] [--only SIDE ...] [--report bench/results/server.md]
"""

import argparse
import asyncio
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import aiohttp
import psutil

ROOT = Path(__file__).resolve().parents[1]
sys.path[0] = str(ROOT)  # instead of this folder, whose `workers` is another

from bench.report_file import publish  # noqa: E402
from tests.simulator import Simulator  # noqa: E402 - the repository is not on the path of a script
from tests.support.api import KEYS, ONE, served  # noqa: E402
from tests.support.site import Site, wait_for  # noqa: E402
from tests.support.toml import PRICES, provider  # noqa: E402
from tests.support.valkey import free_port  # noqa: E402

LITELLM = ROOT / ".venv" / "contenders" / "bin" / "litellm"

#: Seconds that the provider takes if a side is kept busy, and calls a second if it is paced.
LATENCY, PACE = 0.05, 50.0

TOML = """
[workflows.nightly]
budget_usd = 1000
[clients.one]
key = "env:KEY_ONE"
workflows = ["nightly"]
"""

CONFIG = """
model_list:
  - model_name: small
    litellm_params: {{model: openai/small, api_base: "{url}", api_key: sk-unused}}
litellm_settings: {{telemetry: false, num_retries: 0}}
general_settings: {{master_key: {key}}}
"""


@dataclass(frozen=True)
class Side:
    """A server under test: where it takes calls, which process it is, and the process of its Redis."""

    name: str
    url: str
    model: str
    process: psutil.Process | None = None
    redis: psutil.Process | None = None


@dataclass(frozen=True)
class Measured:
    """Calls a second, the median and the 99th percentile in ms, CPU of server and Redis in ms a call, failures."""

    rate: float
    median: float
    slow: float
    cpu: float
    redis: float
    failed: int


@contextmanager
def overnight(simulator: Simulator, folder: Path) -> Iterator[Side]:
    models = {"small": PRICES}
    with (
        Site(
            folder, toml="budget_usd = 1000\n" + provider(simulator.base_url, models=models) + TOML, environment=KEYS
        ) as site,
        served(site) as api,
    ):
        redis = psutil.Process(site.redis_pid())
        yield Side("overnight serve", api.url, "acme/small", psutil.Process(api.process.process.pid), redis)


@contextmanager
def litellm(simulator: Simulator, folder: Path) -> Iterator[Side]:
    folder.mkdir()
    config, port = folder / "config.yaml", free_port()
    config.write_text(CONFIG.format(url=f"{simulator.base_url}/v1", key=ONE))
    command = [str(LITELLM), "--config", str(config), "--host", "127.0.0.1", "--port", str(port), "--num_workers", "1"]
    environment = {**os.environ, "LITELLM_LOCAL_MODEL_COST_MAP": "True", "LITELLM_LOG": "ERROR", "NO_PROXY": "*"}
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(command, cwd=folder, env=environment, stdout=log, stderr=subprocess.STDOUT)
    side = Side("LiteLLM proxy", f"http://127.0.0.1:{port}/v1", "small", psutil.Process(process.pid))
    try:
        wait_for(lambda: asyncio.run(answers(side)), 180.0, every=1.0, what=f"LiteLLM, see {folder / 'log'}")
        yield side
    finally:
        process.terminate()
        try:
            process.wait(20.0)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@contextmanager
def direct(simulator: Simulator, _folder: Path) -> Iterator[Side]:
    yield Side("the provider alone", f"{simulator.base_url}/v1", "small")


SIDES: dict[str, Callable] = {"direct": direct, "overnight": overnight, "litellm": litellm}


async def answers(side: Side) -> bool:
    """Whether the side answers a call."""
    try:
        async with aiohttp.ClientSession() as client:
            return await call(client, side, 0, stream=False)
    except aiohttp.ClientError:
        return False


async def call(client: aiohttp.ClientSession, side: Side, number: int, *, stream: bool) -> bool:
    """Make a call, and read all of its answer. Returns whether it was answered."""
    messages = [{"role": "user", "content": f"Say something about the number {number}."}]
    body = {"model": side.model, "messages": messages, "max_tokens": 50, "stream": stream}
    headers = {"authorization": f"Bearer {ONE}", "x-overnight-max-wait": "60"}
    async with client.post(f"{side.url}/chat/completions", json=body, headers=headers) as answer:
        content = await answer.read()
        return answer.status == 200 and (not stream or b"[DONE]" in content)


async def run(side: Side, in_flight: int, latency: float, seconds: float, *, stream: bool, spread: bool) -> Measured:
    """Keep `in_flight` calls under way. What is measured begins when each client has called once."""
    taken: list[float] = []
    failed = number = 0
    begins = time.perf_counter() + max(2.0, 1.2 * latency)
    ends = begins + seconds

    async def client_loop(client: aiohttp.ClientSession, delay: float) -> None:
        nonlocal failed, number
        await asyncio.sleep(delay)
        while (began := time.perf_counter()) < ends:
            number += 1
            try:
                answered = await call(client, side, number, stream=stream)
            except (aiohttp.ClientError, TimeoutError):
                answered = False
            ended = time.perf_counter()
            if begins <= ended < ends:
                taken.append(ended - began)
                failed += not answered

    async def measured() -> tuple[float, float]:
        await asyncio.sleep(begins - time.perf_counter())
        before = cpu(side.process), cpu(side.redis)
        await asyncio.sleep(ends - time.perf_counter())
        return cpu(side.process) - before[0], cpu(side.redis) - before[1]

    connector, patience = aiohttp.TCPConnector(limit=0), aiohttp.ClientTimeout(total=120.0)
    async with aiohttp.ClientSession(connector=connector, timeout=patience) as client:
        delays = [latency * each / in_flight if spread else 0.0 for each in range(in_flight)]
        (used, redis), *_ = await asyncio.gather(measured(), *(client_loop(client, delay) for delay in delays))
    count = max(1, len(taken))
    cuts = statistics.quantiles(taken, n=100) if len(taken) > 1 else [0.0] * 99
    return Measured(
        len(taken) / seconds, cuts[49] * 1e3, cuts[98] * 1e3, used * 1e3 / count, redis * 1e3 / count, failed
    )


def cpu(process: psutil.Process | None) -> float:
    """Seconds that a process and its children have used."""
    if process is None:
        return 0.0
    found = [process, *process.children(recursive=True)]
    return sum(sum(each.cpu_times()[:2]) for each in found)


def table(title: str, rows: list[tuple[str, int, bool, Measured]], references: dict, *, busy: bool) -> str:
    columns = (
        "calls/s | CPU a call, ms | its Redis, ms"
        if busy
        else "adds at the median, ms | adds at the 99th percentile, ms"
    )
    lines = [
        f"## {title}",
        "",
        f"| side | in flight | answers | {columns} | failed |",
        "|---" * (7 if busy else 6) + "|",
    ]
    for name, in_flight, stream, found in rows:
        base = references.get((in_flight, stream), found)
        figures = (
            f"{found.rate:,.0f} | {found.cpu:.2f} | {found.redis:.2f}"
            if busy
            else f"{found.median - base.median:.1f} | {found.slow - base.slow:.1f}"
        )
        lines.append(f"| {name} | {in_flight:,} | {'streamed' if stream else 'whole'} | {figures} | {found.failed} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=float, default=8.0)
    parser.add_argument("--in-flight", type=int, nargs="+", default=[50, 500, 2_000])
    parser.add_argument("--only", nargs="+", choices=SIDES, default=list(SIDES))
    parser.add_argument("--report", type=Path)
    options = parser.parse_args()
    busy: list[tuple[str, int, bool, Measured]] = []
    paced: list[tuple[str, int, bool, Measured]] = []
    references: dict[tuple[int, bool], Measured] = {}
    with tempfile.TemporaryDirectory() as folder, Simulator(models={"*": {}}, headers=False) as simulator:
        for name in options.only:
            with SIDES[name](simulator, Path(folder) / name) as side:
                for in_flight in options.in_flight:
                    for stream in (False, True):
                        simulator.configure(latency=LATENCY)
                        seconds = options.seconds
                        found = asyncio.run(run(side, in_flight, LATENCY, seconds, stream=stream, spread=False))
                        busy.append((side.name, in_flight, stream, found))
                        print(busy[-1], flush=True)
                        simulator.clear()
                        simulator.configure(latency=in_flight / PACE)
                        found = asyncio.run(run(side, in_flight, in_flight / PACE, seconds, stream=stream, spread=True))
                        paced.append((side.name, in_flight, stream, found))
                        print(paced[-1], flush=True)
                        simulator.clear()
                        if name == "direct":
                            references[in_flight, stream] = found
    words = " ".join((__doc__ or "").partition("\n    python")[0].split())
    report = f"# What the HTTP server adds to a live call\n\n`make bench-server`, {os.cpu_count()} cores, Python {platform.python_version()}. {words}\n\n"
    report += table("Busy", [row for row in busy if row[0] != "the provider alone"], {}, busy=True) + "\n"
    report += table("Paced", [row for row in paced if row[0] != "the provider alone"], references, busy=False)
    publish(report, options.report)


if __name__ == "__main__":
    main()
