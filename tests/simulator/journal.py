"""Every request that came, and what it was billed."""

from collections import Counter
from dataclasses import asdict, dataclass, field
from typing import Any

import orjson

# Modes in which a whole answer goes out all the same.
WHOLE = frozenset({"", "batch", "no_usage", "usage_32_bits", "usage_64_bits", "drip"})


@dataclass(slots=True)
class Entry:
    """One request. Times are seconds; `at` is on the clock that `time.monotonic` reads in every process.

    `status` is 0 while it is in flight, or if no answer was sent. `cost_nusd` is what it was billed, in nano-dollars,
    which also counts if the client hung up. `early` says that it came before a wait that was announced to its key and
    model had passed, `early_job` to this very job. `key` is the index of its key, -1 for an unknown one. `seconds` is
    the time until the answer was sent or the client gone. `custom_id` is that of a line in a provider batch.
    """

    n: int
    at: float
    wall: float
    path: str
    model: str
    job: str
    key: int
    status: int = 0
    mode: str = ""
    input_tokens: int = 0
    output_tokens: int = 0
    cached_tokens: int = 0
    charged: dict[str, float] = field(default_factory=dict)
    cost_nusd: int = 0
    early: bool = False
    early_job: bool = False
    retry_after: float | None = None
    denied_by: str = ""
    hung_up: bool = False
    seconds: float = 0.0
    headers: dict[str, str] = field(default_factory=dict)
    body: Any = None
    custom_id: str = ""


class Journal:
    """Kept in memory until it is cleared. Bodies and headers are kept for the first few requests only."""

    KEPT_WHOLE = 50

    def __init__(self, in_flight: int = 0) -> None:
        self.entries: list[Entry] = []
        self.in_flight = in_flight
        self.peak = in_flight
        self.flawed: Counter[str] = Counter()  # by job: answers that may have a flaw (flaws.py)

    def add(self, entry: Entry, headers: dict[str, str], body: Any) -> None:
        if len(self.entries) < self.KEPT_WHOLE:
            entry.headers, entry.body = headers, body
        self.entries.append(entry)
        self.in_flight += 1
        self.peak = max(self.peak, self.in_flight)

    def done(self) -> None:
        self.in_flight -= 1

    def lines(self) -> bytes:
        return b"".join(orjson.dumps(asdict(entry)) + b"\n" for entry in self.entries)

    def stats(self) -> dict[str, Any]:
        statuses: dict[str, int] = {}
        answered: set[str] = set()
        billed: set[str] = set()
        answered_again = billed_again = 0
        for entry in self.entries:
            statuses[str(entry.status)] = statuses.get(str(entry.status), 0) + 1
            if entry.status == 200 and not entry.hung_up and entry.mode in WHOLE:
                answered_again += entry.job in answered
                answered.add(entry.job)
            if entry.cost_nusd:
                billed_again += entry.job in billed
                billed.add(entry.job)
        return {
            "requests": len(self.entries),
            "statuses": statuses,
            "jobs_answered": len(answered),
            "answered_again": answered_again,
            "billed_again": billed_again,
            "early": sum(entry.early for entry in self.entries),
            "early_jobs": sum(entry.early_job for entry in self.entries),
            "hung_up": sum(entry.hung_up for entry in self.entries),
            "cost_nusd": sum(entry.cost_nusd for entry in self.entries),
            "input_tokens": sum(entry.input_tokens for entry in self.entries if entry.cost_nusd),
            "output_tokens": sum(entry.output_tokens for entry in self.entries if entry.cost_nusd),
            "cached_tokens": sum(entry.cached_tokens for entry in self.entries),
            "in_flight": self.in_flight,
            "peak_in_flight": self.peak,
        }
