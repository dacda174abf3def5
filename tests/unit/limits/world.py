"""A namespace under a clock that a test moves, with calls whose scripts a test may replace."""

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final, TypeVar

from limits.admission import admit, settle
from limits.bucket import Quota
from limits.client.connection import Server
from limits.client.scripts import Call, Script
from limits.keys import Keys
from limits.reservation import Admitted, Answer, Ask, Candidate, Charge, Denied, Level, Settlement
from limits.snapshot import LEDGER_ROWS, BucketState, CircuitState, Rows, ledger_page, snapshot

if TYPE_CHECKING:
    import redis

T = TypeVar("T")
START: Final = 1_795_500_000_000_000
"""µs: any moment, with the sixteen digits of real times."""
SECOND: Final = 1_000_000


class World:
    """Calls at `now` (µs). `scripts` replaces scripts by name, for mutations."""

    def __init__(
        self, client: "redis.Redis", seed: int, scripts: Mapping[str, Script] | None = None, name: str = "w"
    ) -> None:
        self.client = client
        self.server = Server(client)
        self.keys = Keys(f"{name}{seed}")
        self.scripts = scripts or {}
        self.now = START
        self.random = random.Random(seed)
        random.seed(seed)  # the jitter that calls carry

    def call(self, operation: Callable[..., Call[T]], *arguments: Any, **options: Any) -> Call[T]:
        """A call as of now, for `run_many`."""
        call = operation(self.keys, *arguments, now=self.now, **options)
        script = self.scripts.get(call.script.name)
        return replace(call, script=script) if script else call

    def run(self, operation: Callable[..., Call[T]], *arguments: Any, **options: Any) -> T:
        return self.server.run(self.call(operation, *arguments, **options))

    def ledger(self, days: Sequence[int], rows: int = LEDGER_ROWS) -> Rows:
        """The ledger of some days, page by page."""
        found: Rows = {}
        begins: tuple[int, str] | None = (1, "0")
        while begins is not None:
            page = self.run(ledger_page, days, begins, rows)
            found |= page.rows
            begins = page.following
        return found

    def run_many(self, *calls: Call[Any]) -> list[Any]:
        """Several calls in one round trip."""
        return self.server.run_many(calls)

    def pass_time(self, seconds: float) -> None:
        self.now += round(seconds * SECOND)

    def asking(self, name: str, quota: Quota | None = None, **options: Any) -> Ask:
        """An ask for one call of one request, on bucket "b" unless candidates are given."""
        costs = options.pop("costs", {"rpm": 1})
        amount, row = options.pop("amount", 0), options.pop("row", "")
        candidate = Candidate("c", "a", (Charge("b", quota or Quota(), costs),), amount, row)
        options.setdefault("candidates", (candidate,))
        return Ask(name, options.pop("owner", "o"), **options)

    def ask(self, name: str, quota: Quota | None = None, **options: Any) -> Answer:
        return self.run(admit, self.asking(name, quota, **options))

    def admitted(self, name: str, quota: Quota | None = None, **options: Any) -> Admitted:
        answer = self.ask(name, quota, **options)
        assert isinstance(answer, Admitted), answer
        return answer

    def denied(self, name: str, quota: Quota | None = None, **options: Any) -> Denied:
        answer = self.ask(name, quota, **options)
        assert isinstance(answer, Denied), answer
        return answer

    def settle(self, name: str, owner: str = "o", **settlement: Any) -> str:
        """Settle a call; return the verdict."""
        return self.run(settle, name, owner, Settlement(**settlement)).verdict

    def level(self, name: str, **levels: Level) -> str:
        """Settle a call on bucket "b" whose headers reported `levels`."""
        return self.settle(name, levels={"b": levels})

    def bucket(self, quota: Quota, bucket: str = "b") -> BucketState:
        return self.run(snapshot, [(bucket, quota)]).buckets[0]

    def available(self, quota: Quota, dimension: str = "rpm") -> float:
        """Units free right now."""
        return next(state.available for state in self.bucket(quota).dimensions if state.name == dimension)

    def burst(self, quota: Quota, dimension: str = "rpm") -> float:
        """Seconds of the rate that may be sent at once."""
        return next(state.burst for state in self.bucket(quota).dimensions if state.name == dimension)

    def circuit(self) -> CircuitState:
        return self.run(snapshot, circuits=["c"]).circuits[0]
