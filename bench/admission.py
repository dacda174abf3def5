"""Full cycles of an admission, admit and settle, on one Valkey core: how many a second, and what one costs Redis.

A cycle of ours checks and takes circuit, latch, two budgets, requests, tokens and calls in flight in one step, and
settles all of them, with ledger and headers, in another. A cycle of the contenders takes requests and tokens, two
questions, and settles nothing. The server writes its append-only file at every step, as the embedded one does.

    python bench/admission.py [--seconds 5] [--report bench/results/admission.md]
"""

import argparse
import asyncio
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import count
from pathlib import Path

import psutil

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from bench.report_file import publish  # noqa: E402
from limits.admission import admit, settle  # noqa: E402 - the repository is not on the path of a script
from limits.bucket import Quota  # noqa: E402
from limits.budget import BudgetWindow  # noqa: E402
from limits.client.async_connection import AsyncServer  # noqa: E402
from limits.keys import Keys  # noqa: E402
from limits.reservation import Admitted, Ask, Candidate, Charge, Level, Settlement  # noqa: E402
from tests.support.site import Site  # noqa: E402

PYTHON = Path(os.environ.get("CONTENDERS_PYTHON", ROOT / ".venv" / "contenders" / "bin" / "python"))
PROCESSES = (1, 4, 16)

QUOTA = Quota(rpm=10**9, tpm=10**12, concurrency=10**6)
BUDGETS = (BudgetWindow("all", 10**15, "2026-11"), BudgetWindow("workflow/nightly", 10**15, "2026-11-25"))
CANDIDATE = Candidate(
    "acme/small", "acme/0", (Charge("acme/0/small", QUOTA, {"rpm": 1, "tpm": 400}),), 1_000_000, '["nightly",""]'
)
TRUTH = Settlement(
    amount=300_000,
    costs=({"rpm": 1, "tpm": 300},),
    columns={"calls": 1, "input_tokens": 200, "output_tokens": 100},
    levels={"acme/0/small": {"rpm": Level(10**9, 10**9 - 100)}},
)


@dataclass(frozen=True)
class Figures:
    """Cycles a second of all processes together, and CPU of Redis a cycle in µs."""

    who: str
    processes: int
    rate: float
    redis: float


async def cycles(url: str, seconds: float, at_once: int) -> int:
    """Cycles of one process over one connection, `at_once` of them in flight."""
    server, keys, numbers, done = AsyncServer(url), Keys("bench"), count(), 0
    name = f"{os.getpid()}-"
    print("ready", flush=True)
    await asyncio.to_thread(sys.stdin.readline)
    ends = time.monotonic() + seconds

    async def work() -> None:
        nonlocal done
        while time.monotonic() < ends:
            call = f"{name}{next(numbers)}"
            ask = Ask(call, "w", (CANDIDATE,), BUDGETS, send_at_once=True)
            answer = await server.run(admit(keys, ask))
            assert isinstance(answer, Admitted), answer
            await server.run(settle(keys, call, "w", TRUTH))
            done += 1

    await asyncio.gather(*(work() for _ in range(at_once)))
    await server.aclose()
    return done


def measured(who: str, command: Callable[[], list[str]], processes: int, site: Site) -> Figures:
    started = [
        subprocess.Popen(command(), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT)
        for _ in range(processes)
    ]
    for each in started:
        assert each.stdout is not None
        assert each.stdout.readline().strip() == "ready", f"{who} did not start"
    redis = psutil.Process(site.redis_pid())
    cpu, began = sum(redis.cpu_times()[:2]), time.monotonic()
    total = 0
    for each in started:
        assert each.stdin is not None
        each.stdin.write("go\n")
        each.stdin.flush()
    for each in started:
        assert each.stdout is not None
        total += int(each.stdout.readline())
    seconds = time.monotonic() - began
    cpu = sum(redis.cpu_times()[:2]) - cpu
    for each in started:
        each.communicate()
    return Figures(who, processes, total / seconds, cpu / total * 1e6)


def report(found: list[Figures], seconds: float) -> str:
    lines = [
        "# Admissions on one core of Valkey",
        "",
        f"`make bench-admission`, {os.cpu_count()} cores, Python {platform.python_version()}, {seconds:g} s a run;",
        "clients and server share the machine; appendfsync always. Ours: circuit, latch, two budgets, requests, tokens",
        "and calls in flight in one step, settled with ledger and headers in another. Theirs: requests and tokens,",
        "nothing settled. Cycles a second of all client processes; CPU of Redis a cycle in brackets.",
        "",
        f"| | {' | '.join(f'{n} process' + ('es' if n > 1 else '') for n in PROCESSES)} |",
        f"|---|{'---|' * len(PROCESSES)}",
    ]
    for who in dict.fromkeys(each.who for each in found):
        row = {each.processes: each for each in found if each.who == who}
        cells = [f"{row[n].rate:,.0f} ({row[n].redis:.0f} µs)" if n in row else "-" for n in PROCESSES]
        lines.append(f"| {who} | {' | '.join(cells)} |")
    best = min(each.redis for each in found if each.who.startswith("Overnight"))
    lines += ["", f"One core of Redis alone would carry {1e6 / best:,.0f} of our cycles a second."]
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--report", type=Path)
    parser.add_argument("--client", nargs=2, metavar=("URL", "AT_ONCE"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.client:
        print(asyncio.run(cycles(arguments.client[0], arguments.seconds, int(arguments.client[1]))), flush=True)
        return
    found: list[Figures] = []
    with tempfile.TemporaryDirectory() as folder, Site(Path(folder), toml="") as site:
        site.run("check", status=None)  # starts the server
        keeper = site.client()
        keeper.ping()
        url = site.redis_url()
        ours = [sys.executable, str(Path(__file__)), "--seconds", str(arguments.seconds), "--client", url]
        theirs = [str(PYTHON), str(ROOT / "bench" / "contenders" / "cycles.py")]
        rows: dict[str, list[str]] = {
            "Overnight, 64 at a time a process": [*ours, "64"],
            "Overnight, one at a time a process": [*ours, "1"],
            "limits, sliding window counter": [*theirs, "limits", url, str(arguments.seconds)],
            "throttled-py, GCRA": [*theirs, "throttled", url, str(arguments.seconds)],
            "pyrate-limiter, sliding window log": [*theirs, "pyrate", url, str(arguments.seconds)],
        }
        for who, command in rows.items():
            for processes in PROCESSES:
                found.append(measured(who, lambda command=command: command, processes, site))
                print(f"{who}, {processes}: {found[-1].rate:,.0f}/s, {found[-1].redis:.0f} µs", flush=True)
                keeper.flushall()
    text = report(found, arguments.seconds)
    publish(text, arguments.report)


if __name__ == "__main__":
    main()
