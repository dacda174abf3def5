"""A circuit: whether a provider's model is up.

closed --failures--> open --cooldown--> half-open --a probe succeeds--> closed
                      ^                    |
                      +--the probe fails---+

Failures are timeouts, connection errors, 5xx, 529 and broken bodies. A 429 does not count, and a 400 proves that the
provider is up. Each change of state starts a new generation, and results of an older one change nothing. A half-open
circuit lets one probe through at a time. If a probe dies with its worker, the next one may go when its lease ends.
"""

from dataclasses import dataclass

from limits.errors import InvalidQuota


@dataclass(frozen=True, slots=True)
class CircuitSettings:
    """When a circuit opens and closes, and the retry budget that goes with it. Times are in seconds.

    The circuit opens if at least `volume` calls ended within `window` and `ratio` of them failed. The cooldown is
    `cooldown` x 2^n with +-20 % of jitter, at most `longest_cooldown`; n counts how often it has reopened. `probes`
    successes in a row close it again.

    The retry budget keeps failures from multiplying traffic. Every call that ends earns `retries_per_call` retries,
    every second earns `retries_per_second`, and at most `most_retries` are saved (Finagle's RetryBudget).
    """

    window: float = 30.0
    volume: int = 10
    ratio: float = 0.5
    cooldown: float = 5.0
    longest_cooldown: float = 300.0
    probes: int = 1
    retries_per_call: float = 0.2
    retries_per_second: float = 1.0
    most_retries: float = 100.0

    def __post_init__(self) -> None:
        for name in self.__dataclass_fields__:
            value = getattr(self, name)
            if not value > 0:
                raise InvalidQuota(f"circuit setting {name} = {value!r}: expected a number above 0.")
        if self.ratio > 1:
            raise InvalidQuota(f"circuit setting ratio = {self.ratio!r}: expected a part, up to 1.")
