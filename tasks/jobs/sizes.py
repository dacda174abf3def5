"""Whether a model's 429s are about the size of a request: long ones meet them, and all shorter ones are answered.

Some providers ask for another plan, or have a limit of their own, for long prompts, and say so with a 429 like any
other. To pause the model for it would hold up everyone whose prompts are short. So after a few 429s to requests that
were all longer than whatever was answered lately, such a 429 is the job's alone.
"""

import math
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

#: Seconds for which an answer counts, how many answers are needed, and how much longer than all of them a refused
#: request must be.
LATELY: Final = 600.0
ENOUGH: Final = 20
LONGER: Final = 1.25

#: After so many such 429s in a row, the next one is the job's alone.
IN_A_ROW: Final = 3


@dataclass(slots=True)
class _Model:
    """The latest answers with their size, and the 429s in a row that only longer requests met."""

    answered: deque[tuple[float, int]] = field(default_factory=lambda: deque(maxlen=200))
    refused: int = 0
    shortest: float = math.inf


class Sizes:
    """What this worker has seen of each bucket. Sizes are tokens of the prompt, as they were expected."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._models: dict[str, _Model] = {}

    def answered(self, bucket: str, size: int) -> None:
        """A request was answered."""
        found = self._models.setdefault(bucket, _Model())
        found.answered.append((self._clock(), size))
        if size >= found.shortest:
            found.refused, found.shortest = 0, math.inf

    def refused(self, bucket: str, size: int) -> bool:
        """A request met a 429; whether that is about its size."""
        found = self._models.setdefault(bucket, _Model())
        since = self._clock() - LATELY
        while found.answered and found.answered[0][0] < since:
            found.answered.popleft()
        longest = max((each for _, each in found.answered), default=0)
        if len(found.answered) < ENOUGH or size <= LONGER * longest:
            found.refused, found.shortest = 0, math.inf
            return False
        found.refused += 1
        found.shortest = min(found.shortest, size)
        return found.refused > IN_A_ROW
