"""One workflow's trouble beside another's work: 20,000 jobs for a provider that is paused, and 200 for one that is not.

python bench/fairness.py [--jobs N] [--report FILE]
"""

import argparse
import os
import platform
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from bench.report_file import publish  # noqa: E402
from limits.client.connection import Server  # noqa: E402 - the repository is not on the path of a script
from tasks.batches.store import Store  # noqa: E402
from tests.simulator import Simulator  # noqa: E402
from tests.support.site import Site, job, wait_for  # noqa: E402

PAUSE, SMALL = 60, 200

PROVIDER = """
[providers.{name}]
api = "openai"
base_url = "{url}"
api_key = "env:ACME_KEY"
[providers.{name}.models.{model}]
"""


def ran(site: Site, count: int, first: int) -> float:
    """Submit workflow B; seconds until all of it is done."""
    began = time.monotonic()
    batch = site.submit([job(first + number, model="quick") for number in range(count)], workflow="small")
    store = Store(site.keys, Server(site.client()))
    wait_for(lambda: (found := store.batch(batch)) and found.completed == count, 120, every=0.1)
    return time.monotonic() - began


def denials(site: Site) -> tuple[int, int]:
    """How often a job was denied, and how often one was set aside without asking."""
    said = [line for worker in site.workers for line in worker.said().splitlines() if " retry: " in line]
    aside = sum("were denied just now" in line for line in said)
    return len(said) - aside, aside


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jobs", type=int, default=20_000)
    parser.add_argument("--report", type=Path)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, Simulator(latency=0.2) as paused, Simulator(latency=0.2) as quick:
        toml = PROVIDER.format(name="paused", url=paused.base_url, model="slow")
        toml += PROVIDER.format(name="quick", url=quick.base_url, model="quick")
        with Site(Path(folder), toml=toml) as site:
            site.start_workers(2, concurrency=50)
            ran(site, 50, 900_000)
            alone = ran(site, SMALL, 0)
            paused.configure(failures=[{"mode": "429", "retry_after": str(PAUSE), "times": 5}])
            began = time.monotonic()
            site.submit([job(number, model="slow") for number in range(arguments.jobs)], workflow="large")
            wait_for(lambda: paused.stats()["statuses"].get("429"), 60)
            told = time.time()
            beside = ran(site, SMALL, 10_000)
            wait_for(lambda: any(e["wall"] > told + PAUSE - 5 for e in paused.journal()), PAUSE + 60, every=0.5)
            waited = time.monotonic() - began
            denied, aside = denials(site)
            calls = paused.stats()["statuses"]
    text = "\n".join(
        [
            "# Fairness",
            "",
            f"`make bench-fairness`, {os.cpu_count()} cores, Python {platform.python_version()}; all on one machine.",
            "",
            f"Workflow A has {arguments.jobs:,} jobs for a provider that answers 429 with a Retry-After of {PAUSE} s,",
            f"workflow B {SMALL} jobs for another one; two workers with 50 places each.",
            "",
            "| | |",
            "|---|---|",
            f"| B alone | {alone:.1f} s |",
            f"| B beside A | {beside:.1f} s |",
            f"| denials of A's jobs until the first of them ran, {waited:.0f} s | {denied} ({denied / waited:.1f}/s) |",
            f"| of A's jobs set aside without asking | {aside} |",
            f"| calls that met the 429 | {calls.get('429', 0)} |",
            "",
        ]
    )
    publish(text, arguments.report)


if __name__ == "__main__":
    main()
