"""A namespace under a clock that a test moves, with calls whose scripts a test may replace."""

import random
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final, TypeVar

from limits.admission import Admitted, Answer, Ask, Candidate, Charge, admit
from limits.bucket import Quota
from limits.connection import Server
from limits.keys import Keys
from limits.scripts import Call, Script

if TYPE_CHECKING:
    import redis

T = TypeVar("T")
START: Final = 1_795_500_000_000_000
"""µs: an arbitrary moment, with the sixteen digits that times really have."""
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

    def run(self, operation: Callable[..., Call[T]], *arguments: Any, **options: Any) -> T:
        call = operation(self.keys, *arguments, now=self.now, **options)
        script = self.scripts.get(call.script.name)
        return self.server.run(replace(call, script=script) if script else call)

    def pass_time(self, seconds: float) -> None:
        self.now += round(seconds * SECOND)

    def ask(self, name: str, quota: Quota | None = None, **options: Any) -> Answer:
        """Ask for one call of one request, on bucket "b" unless candidates are given."""
        costs = options.pop("costs", {"rpm": 1})
        amount, row = options.pop("amount", 0), options.pop("row", "")
        candidate = Candidate("c", "a", (Charge("b", quota or Quota(), costs),), amount, row)
        options.setdefault("candidates", (candidate,))
        return self.run(admit, Ask(name, options.pop("owner", "o"), **options))

    def admitted(self, name: str, quota: Quota | None = None, **options: Any) -> Admitted:
        answer = self.ask(name, quota, **options)
        assert isinstance(answer, Admitted), answer
        return answer

    def holdings(self) -> dict[bytes, bytes | None]:
        """Every key that is no hash or sorted set, the clock aside, with its packed value."""
        clock = self.keys.clock.encode()
        names = [name for name in self.client.scan_iter(f"{self.keys.prefix}*") if name != clock]
        strings = [name for name in names if self.client.type(name) == b"string"]
        return dict(zip(strings, self.client.mget(strings), strict=True)) if strings else {}
