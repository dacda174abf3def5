"""The batch lane from `submit` to the result files: real workers, and a provider with a Batch API on loopback."""

from pathlib import Path
from typing import Any

from tests.simulator import Simulator
from tests.support.site import Site, jobs

PRICES = "input_usd_per_mtok = 1.0\noutput_usd_per_mtok = 2.0"
PROVIDER = 'batch_poll = "0.3s"\nbatch_cancel_time = "2s"'
WORKFLOW = '[workflows.nightly]\nlanes = ["batch", "live"]\nbatch_min_time = "1s"\ndeadline = "10m"\n'


def site(folder: Path, simulator: Simulator, *, model: str = "", workflow: str = "", provider: str = "") -> Site:
    return Site(
        folder,
        simulator,
        model=f"{PRICES}\n{model}",
        provider=f"{PROVIDER}\n{provider}",
        tables=f"{WORKFLOW}{workflow}",
    )


def lanes_of(lines: list[dict[str, Any]]) -> dict[str, int]:
    found: dict[str, int] = {}
    for line in lines:
        lane = line["overnight"]["lane"]
        found[lane] = found.get(lane, 0) + 1
    return found


def assert_paid_once(simulator: Simulator, status: dict[str, Any]) -> None:
    """Every job was answered once, by one lane, and the books are the provider's."""
    stats = simulator.stats()
    assert stats["billed_again"] == 0
    assert round(status["cost_usd"] * 1e9) == stats["cost_nusd"]


def test_a_batch_goes_through_the_batch_lane_at_half_the_price(tmp_path: Path) -> None:
    with Simulator() as simulator, site(tmp_path, simulator) as one:
        one.start_worker()
        batch = one.submit(jobs(50))
        status = one.wait(batch)
        assert status["request_counts"] == {"total": 50, "completed": 50, "failed": 0}
        lines, errors = one.results(batch)
        assert lanes_of(lines) == {"batch": 50}
        assert errors == []
        assert [each["status"] for each in simulator.batches()] == ["completed"]
        assert_paid_once(simulator, status)
