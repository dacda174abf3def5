"""The ways in which providers count requests and tokens. Times are monotonic seconds."""

import math
from abc import ABC, abstractmethod
from collections import deque

from tests.simulator.config import Model

_WINDOW = 60.0


class Counter(ABC):
    """One dimension."""

    def __init__(self, limit: float) -> None:
        self.limit = limit

    @abstractmethod
    def wait(self, units: float, now: float) -> float:
        """Seconds until `units` fit, 0 for now."""

    @abstractmethod
    def take(self, units: float, now: float) -> None:
        """Count `units`."""

    @abstractmethod
    def remaining(self, now: float) -> float:
        """What is left, as headers report it."""

    @abstractmethod
    def reset(self, now: float) -> float:
        """Seconds until everything is there again."""

    def possible(self, units: float) -> bool:
        return units <= self.limit


class Linear(Counter):
    """A bucket that holds `burst_s` seconds of the rate and refills continuously."""

    def __init__(self, limit: float, burst_s: float, now: float) -> None:
        super().__init__(limit)
        self.rate = limit / _WINDOW
        self.capacity = max(1.0, self.rate * burst_s)
        self.level = self.capacity
        self.at = now

    def _refill(self, now: float) -> None:
        self.level = min(self.capacity, self.level + max(0.0, now - self.at) * self.rate)
        self.at = max(self.at, now)

    def wait(self, units: float, now: float) -> float:
        self._refill(now)
        # What is larger than the bucket passes when the bucket is full, and leaves a debt.
        return max(0.0, (min(units, self.capacity) - self.level) / self.rate)

    def take(self, units: float, now: float) -> None:
        self._refill(now)
        self.level -= units

    def remaining(self, now: float) -> float:
        self._refill(now)
        return max(0.0, self.level)

    def reset(self, now: float) -> float:
        self._refill(now)
        return (self.capacity - self.level) / self.rate


class Fixed(Counter):
    """Windows by the clock. What is larger than a window's share passes when nothing else is in it."""

    def __init__(self, limit: float, window: float, now: float) -> None:
        super().__init__(limit)
        self.window = window
        self.share = limit * window / _WINDOW
        self.origin = now
        self.index = 0
        self.used = 0.0

    def _turn(self, now: float) -> None:
        index = int((now - self.origin) // self.window)
        if index != self.index:
            self.index, self.used = index, 0.0

    def wait(self, units: float, now: float) -> float:
        self._turn(now)
        return 0.0 if not self.used or self.used + units <= self.share else self.reset(now)

    def take(self, units: float, now: float) -> None:
        self._turn(now)
        self.used += units

    def remaining(self, now: float) -> float:
        self._turn(now)
        return max(0.0, self.share - self.used)

    def reset(self, now: float) -> float:
        return self.origin + (self.index + 1) * self.window - now


class Sliding(Counter):
    """The last 60 seconds, exactly."""

    def __init__(self, limit: float) -> None:
        super().__init__(limit)
        self.log: deque[tuple[float, float]] = deque()
        self.used = 0.0

    def _expire(self, now: float) -> None:
        while self.log and self.log[0][0] <= now - _WINDOW:
            self.used -= self.log.popleft()[1]

    def wait(self, units: float, now: float) -> float:
        self._expire(now)
        excess = self.used + units - self.limit
        if excess <= 0:
            return 0.0
        for at, taken in self.log:
            excess -= taken
            if excess <= 0:
                return at + _WINDOW - now
        return _WINDOW

    def take(self, units: float, now: float) -> None:
        self._expire(now)
        self.log.append((now, units))
        self.used += units

    def remaining(self, now: float) -> float:
        self._expire(now)
        return max(0.0, self.limit - self.used)

    def reset(self, now: float) -> float:
        return self.log[-1][0] + _WINDOW - now if self.log else 0.0


def counter(model: Model, limit: float, now: float) -> Counter:
    match model.counting:
        case "linear":
            return Linear(limit, model.burst_s, now)
        case "per-second":
            # A limit below one a second is counted in seconds that hold one.
            return Fixed(limit, max(1.0, _WINDOW / limit), now)
        case "fixed":
            return Fixed(limit, _WINDOW, now)
        case _:
            return Sliding(limit)


class Quota:
    """All dimensions of one model for one key."""

    def __init__(self, model: Model, now: float) -> None:
        self.model = model
        limits = {"rpm": model.rpm, "tpm": model.tpm, "itpm": model.itpm, "otpm": model.otpm}
        self.counters = {name: counter(model, limit, now) for name, limit in limits.items() if limit}
        self.in_flight = 0
        # Until when all clients were asked to wait, and since when they know.
        self.told_until = -math.inf
        self.told_at = -math.inf

    def costs(self, estimate: int, ceiling: int, made: int) -> dict[str, float]:
        """What a request costs in each dimension as it arrives. Anthropic's `otpm` comes when it is made."""
        match self.model.tokens:
            case "max":
                tokens = max(ceiling, estimate)
            case "sum":
                tokens = estimate + ceiling
            case "input":
                tokens = estimate
            case _:
                tokens = estimate + made
        output = 0 if self.model.tokens == "anthropic" else made
        return {"rpm": 1, "tpm": tokens, "itpm": estimate, "otpm": output}

    def impossible(self, costs: dict[str, float]) -> str | None:
        """The dimension that this request alone exceeds."""
        return next((name for name, one in self.counters.items() if not one.possible(costs[name])), None)

    def wait(self, costs: dict[str, float], now: float) -> tuple[float, str]:
        """How long until the request fits everywhere, and the dimension that takes longest. 0 is now."""
        if self.model.concurrency and self.in_flight >= self.model.concurrency:
            return 1.0, "concurrency"
        waits = [(one.wait(max(costs[name], 1e-9), now), name) for name, one in self.counters.items()]
        return max(waits, default=(0.0, ""))

    def take(self, costs: dict[str, float], now: float) -> None:
        for name, one in self.counters.items():
            one.take(costs[name], now)

    def made(self, output: int, now: float) -> None:
        """Output that is counted when it has been made."""
        if self.model.tokens == "anthropic" and "otpm" in self.counters:
            self.counters["otpm"].take(output, now)
