"""What the answers of a batch's pilot say of the whole batch: cost, time, and lines whose answer is no use."""

import math
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from statistics import fmean, stdev
from typing import Any, Final

from limits.budget import NANO
from limits.client.compact_json import loads
from tasks.answers.checks import NOT_VALID
from tasks.batches.batch import Batch
from tasks.batches.files import ERRORS, OUTPUT, files_of, of_round

#: Standard errors on each side of a mean, for 95 %.
_SIDES: Final = 1.96


@dataclass(frozen=True, slots=True)
class Projection:
    """A pilot of `answered` lines of `lines`: what it has cost (n$), and its invalid lines by reason.

    `cost` is that of all lines, and with 95 % it is between `lowest` and `highest`. `seconds` is the time for the
    lines that are left, 0 if unknown.
    """

    answered: int
    lines: int
    spent: int
    cost: int
    lowest: int
    highest: int
    seconds: float
    invalid: Counter[str] = field(default_factory=Counter)

    @property
    def share(self) -> float:
        """The part of its lines that are invalid."""
        return self.invalid.total() / self.answered if self.answered else 0.0

    def shares(self) -> tuple[float, float]:
        """Between which parts of all lines are invalid, with 95 % (Wilson's interval)."""
        n, z = max(self.answered, 1), _SIDES
        middle = (self.share + z * z / (2 * n)) / (1 + z * z / n)
        side = z / (1 + z * z / n) * math.sqrt(self.share * (1 - self.share) / n + z * z / (4 * n * n))
        return max(0.0, middle - side), min(1.0, middle + side)


def projection(batch: Batch, slots: int = 0) -> Projection:
    """Project the answers of a batch's pilot to all its lines. `slots`: calls in flight at a time, 0 if unknown."""
    return of_lines(batch, _results(batch), slots)


def of_lines(batch: Batch, results: Iterable[dict[str, Any]], slots: int = 0) -> Projection:
    """Project these result lines to all lines of the batch."""
    costs: list[float] = []
    seconds: list[float] = []
    invalid: Counter[str] = Counter()
    for line in results:
        report = line["overnight"]
        costs.append(report["cost_usd"] * NANO)
        seconds.append(report["seconds"])
        if reason := why_invalid(line):
            invalid[reason] += 1
    mean = fmean(costs) if costs else 0.0
    side = _SIDES * stdev(costs) / math.sqrt(len(costs)) if len(costs) > 1 else 0.0
    lines, spent = batch.distinct, round(sum(costs))
    return Projection(
        answered=len(costs),
        lines=lines,
        spent=spent,
        cost=round(mean * lines),
        lowest=max(spent, round((mean - side) * lines)),
        highest=round((mean + side) * lines),
        seconds=_seconds(batch, len(costs), fmean(seconds) if seconds else 0.0, slots),
        invalid=invalid,
    )


def why_invalid(line: dict[str, Any]) -> str:
    """Why a result line is no use: the result of its check, or its error's code; '' if it is fine."""
    result: str = line["overnight"].get("checks", {}).get("result", "")
    if result in NOT_VALID:
        return result
    return "" if line["error"] is None else str(line["error"]["code"])


def _seconds(batch: Batch, answered: int, each: float, slots: int) -> float:
    """The time for the rest: within the limits, corrected by the tokens that the pilot took, or by the slots."""
    left = batch.distinct - answered
    expected = (batch.expected_input + batch.expected_output) * answered / batch.distinct
    used = batch.input_tokens + batch.output_tokens
    by_limits = batch.expected_seconds * (used / expected if expected and used else 1.0) * left / batch.distinct
    return max(by_limits, each * left / slots if slots else 0.0)


def _results(batch: Batch) -> Iterator[dict[str, Any]]:
    """The result lines of a batch that runs, without those of copies."""
    files = files_of(batch)
    for name, length in ((OUTPUT, batch.output_offset), (ERRORS, batch.errors_offset)):
        rest = b""
        for chunk in files.written(of_round(name, batch.round), length, batch.parts):
            *lines, rest = (rest + chunk).split(b"\n")
            for raw in lines:
                line: dict[str, Any] = loads(raw)
                if "copy_of" not in line["overnight"]:
                    yield line
