"""The batch lane against a simulated provider, tick by tick. There are no workers: the test plays them.

`world` is that of tests/unit/batches/conftest.py: a real Valkey, and a list in place of the queue.
"""

import json
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

from limits.snapshot import BudgetState, snapshot
from tasks.batches import going_live
from tasks.batches.batch import Batch
from tasks.batches.chunk import Chunk
from tasks.batches.chunk_journal import ChunkJournal
from tasks.batches.live import Live
from tasks.batches.offload import offload
from tasks.batches.store import Store
from tests.simulator import Simulator
from workers.config.settings import Settings
from workers.models import budgets

PRICES = {"input_usd_per_mtok": 1.0, "output_usd_per_mtok": 2.0}


def settings_for(
    simulator: Simulator, *, workflow: dict[str, Any], provider: dict[str, Any], model: dict[str, Any]
) -> Settings:
    acme = {"api": "openai", "base_url": simulator.base_url, "batch_poll": 0.05, "batch_cancel_time": 0.5}
    nightly = {"lanes": ["batch", "live"], "batch_min_time": 0.1, "budget_usd": 10, "default_max_tokens": 50}
    return Settings.model_validate(
        {
            "providers": {"acme": {**acme, **provider, "models": {"small": {**PRICES, **model}}}},
            "workflows": {"nightly": {**nightly, **workflow}},
        }
    )


class Lane:
    """One batch in the batch lane."""

    def __init__(
        self,
        world: Any,
        simulator: Simulator,
        lines: int = 20,
        *,
        deadline: float = 3600.0,
        workflow: dict[str, Any] | None = None,
        provider: dict[str, Any] | None = None,
        model: dict[str, Any] | None = None,
        distinct: int = 0,
        made: Batch | None = None,
    ) -> None:
        self.world = world
        self.simulator = simulator
        self.settings = settings_for(simulator, workflow=workflow or {}, provider=provider or {}, model=model or {})
        made = made or world.batch(lines, deadline=deadline, distinct=distinct)
        self.store: Store = world.store
        self.store.note(made, lanes="batch,live")
        self.id = made.id
        self.highest = 0.0

    @property
    def batch(self) -> Batch:
        found = self.store.batch(self.id)
        assert found is not None
        return found

    @property
    def chunks(self) -> list[Chunk]:
        return ChunkJournal(self.store, self.id).all()

    def tick(self, store: Store | None = None) -> float | None:
        """One tick; the budget is never exceeded after it."""
        found = offload(store or self.store, self.settings, self.batch, Live(store or self.store, 0.0))
        self.highest = max(self.highest, self.money().spent + self.money().held)
        return found

    def run(self, until: Callable[[], Any] | None = None, seconds: float = 20.0) -> None:
        """Ticks until every chunk is closed, or until the condition holds."""
        ends = time.monotonic() + seconds
        while True:
            self.tick()
            chunks = self.chunks
            done = self.batch.divided_offset >= self.batch.bytes and all(chunk.state == "closed" for chunk in chunks)
            if until() if until is not None else done:
                return
            assert time.monotonic() < ends, [(chunk.state, chunk.trouble) for chunk in chunks]
            time.sleep(0.02)

    def money(self) -> BudgetState:
        over = budgets.windows(self.settings, "nightly", self.id, time.time())
        return self.store.server.run(snapshot(self.store.keys, budgets=over)).budgets[0]

    def live_lines(self) -> list[int]:
        """The lines that went live."""
        return [line for _, line, _ in self.world.queue]

    def results(self) -> Counter[str]:
        """Custom ids of the results that are recorded; each must be there once."""
        entries: Any = self.store.client.xrange(self.store.keys.results(self.id))
        return Counter(json.loads(fields[b"d"])["custom_id"] for _, fields in entries)

    def assert_books(self) -> None:
        """What was spent is what the provider billed; nothing is held, nothing was paid twice or came twice."""
        stats, money = self.simulator.stats(), self.money()
        assert (money.spent, money.held) == (stats["cost_nusd"], 0)
        assert stats["billed_again"] == 0
        assert all(count == 1 for count in self.results().values())
        assert self.batch.cost == stats["cost_nusd"]
        assert self.batch.offloaded == 0
        assert self.highest <= money.limit


def publishing_to(world: Any, monkeypatch: Any) -> None:
    """Lines that go live are put into the world's list."""
    monkeypatch.setattr(going_live, "publish", world.publish)
