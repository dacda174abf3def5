"""How long a provider batch takes: a number, a range, or times as public reports give them."""

from itertools import pairwise
from typing import Any

from tests.simulator import answers

#: Multiples of it are spread evenly over the numbers from 0 to 1.
_GOLDEN = 0.618034


def seconds(config: Any, number: int, before: int) -> float:
    """The seconds from the creation of a provider batch to its end; `before`: how many its model had earlier."""
    if not config.batch_times:
        return answers.pick(config.batch_delay, str(number), "batch")
    place = (0.5 + before * _GOLDEN) % 1.0
    for (begin, low), (end, high) in pairwise(config.batch_times):
        if place <= end:
            return float(low * (high / low) ** ((place - begin) / (end - begin)))
    return float(config.batch_times[-1][1])
