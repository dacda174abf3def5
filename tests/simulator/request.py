"""One request that has been understood, and what it costs."""

from dataclasses import dataclass
from typing import Any

from tests.simulator.batches import Batches
from tests.simulator.config import Model


@dataclass(slots=True)
class Request:
    """One request that has been understood."""

    task: str
    api: str
    model: str
    job: str
    key: int
    body: dict[str, Any]
    size: int
    now: float
    wall: float

    def cost(self, model: Model, asked: int, made: int) -> int:
        """n$ of so many tokens: in the flex tier as by the Batch API."""
        live = round(1000 * (asked * model.input_usd_per_mtok + made * model.output_usd_per_mtok))
        return round(live * Batches.PRICE) if self.body.get("service_tier") == "flex" else live
