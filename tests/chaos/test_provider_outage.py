"""Two providers, one of which fails for a while: traffic moves, one probe at a time asks after it, and comes back."""

import time
from collections import Counter
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from limits.circuit import CircuitSettings
from tests.simulator import Simulator
from tests.support.site import Site, jobs, wait_for
from tests.support.toml import provider

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(300)]

TIMEOUT = 1.0
CIRCUIT = CircuitSettings()
COOLDOWN = CIRCUIT.cooldown * 1.2  # with its jitter

LIMITS = {"small": "rpm = 1_500\nburst = 1"}
MIX = """
[models.mix]
targets = [{ provider = "shaky", model = "small" }, { provider = "steady", model = "small" }]
"""


@pytest.mark.parametrize("mode", ["500", "drip", "hang", "garbage"])
def test_traffic_moves_and_comes_back(tmp_path: Path, mode: str) -> None:
    """`drip` is an answer that comes too slowly, so that the call's time runs out; `hang` is one that never begins."""
    with Simulator(latency=0.1) as shaky, Simulator(latency=0.1) as steady:
        providers = [
            provider(shaky.base_url, "shaky", more=f"timeout = {TIMEOUT}", models=LIMITS),
            provider(steady.base_url, "steady", models=LIMITS),
        ]
        with Site(tmp_path, toml="".join(providers) + MIX) as site:
            site.start_workers(2)
            batch = site.submit(jobs(900, model="mix"))
            wait_for(lambda: len(shaky.journal()) > 40, 30, what="traffic at both")
            shaky.configure(failures=[{"mode": mode, "seconds": 60.0}])
            failing = time.monotonic()
            time.sleep(3.0)  # the length of the outage
            shaky.configure(failures=[])
            mended = time.monotonic()
            status = site.wait(batch, 120)
            lines, errors = site.results(batch)
        journal, calm = shaky.journal(), steady.journal()

        assert status["request_counts"] == {"total": 900, "completed": 900, "failed": 0}
        assert errors == []
        # Calls that were on their way when it began to fail, or was mended, may have met either.
        threshold = opened(
            sorted((end(entry), entry["mode"] == mode) for entry in journal if end(entry) >= failing - CIRCUIT.window)
        )
        back = min(end(entry) for entry in journal if entry["at"] > threshold and not entry["mode"])
        after = [entry for entry in journal if threshold + 1.0 < entry["at"] < back]
        assert len(after) <= 3, "a second past the threshold only probes are sent"
        for earlier, later in pairwise(after):
            assert later["at"] >= end(earlier) - 0.01, "one probe at a time"
        assert back <= mended + COOLDOWN + 1.5, "it is asked within one cooldown"
        assert sum(back < entry["at"] < back + 3 for entry in journal) > 20, "and its traffic comes back"

        # No attempt is lost to waiting: each was a request that went out.
        requests = Counter(entry["job"] for entry in [*journal, *calm])
        for line in lines:
            text = f"Say something about the number {line['custom_id'].removeprefix('job-')}."
            assert line["overnight"]["attempts"] == requests[text]


def opened(ends: list[tuple[float, bool]]) -> float:
    """When a circuit's threshold was reached, by the ends of its calls and whether they failed."""
    failures = 0
    for calls, (at, failed) in enumerate(ends, 1):
        failures += failed
        if calls >= CIRCUIT.volume and failures >= CIRCUIT.ratio * calls:
            return at
    raise AssertionError("the threshold was never reached")


def end(entry: dict[str, Any]) -> float:
    """When the answer was out, or the client had gone."""
    return float(entry["at"] + entry["seconds"])
