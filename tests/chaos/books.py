"""What must hold after a fault, whatever it was: each job answered once, and the books equal to the provider's bill."""

import json
from typing import Any

from tests.simulator import Simulator
from tests.support.site import Site, wait_for


def balance(
    site: Site, provider: Simulator, batch: str, count: int, *, paid_twice: int = 0, seconds: float = 120.0
) -> dict[str, Any]:
    """Wait for the batch's end and check everything; its status.

    `paid_twice`: how many calls may have been made again, since their worker was killed while they were in flight.
    """
    status = site.wait(batch, seconds)
    lines, errors = site.results(batch)
    journal = provider.journal()
    assert status["request_counts"] == {"total": count, "completed": count, "failed": 0}
    assert errors == []
    assert len({line["custom_id"] for line in lines}) == len(lines) == count
    assert count <= len(journal) <= count + paid_twice, "paid for twice"
    wait_for(lambda: json.loads(site.run("limits", "--json").stdout)["reservations"] == 0, 60, 1.0, "settlement")
    billed = sum(entry["cost_nusd"] for entry in journal)
    booked = round(json.loads(site.run("costs", "--json").stdout)["total"]["total_usd"] * 1e9)
    assert booked == billed if len(journal) == count else booked >= billed
    return status
