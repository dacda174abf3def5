"""One request that has been understood, and what it costs."""

from dataclasses import dataclass
from typing import Any

from tests.simulator.batches import Batches
from tests.simulator.config import Model
from tests.simulator.prompt_cache import Cached

NOT_CACHED = Cached()


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

    def cost(self, model: Model, asked: int, made: int, cached: Cached = NOT_CACHED) -> int:
        """n$ of these tokens. The flex tier costs as much as the Batch API."""
        price = model.input_usd_per_mtok
        read = price if model.cached_usd_per_mtok is None else model.cached_usd_per_mtok
        write = price if model.cache_write_usd_per_mtok is None else model.cache_write_usd_per_mtok
        dollars = (asked - cached.read - cached.written) * price + cached.read * read + cached.written * write
        live = round(1000 * (dollars + made * model.output_usd_per_mtok))
        return round(live * Batches.PRICE) if self.body.get("service_tier") == "flex" else live
