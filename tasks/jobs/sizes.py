"""Whether a model's 429s are about the size of a request: long requests get them, and all shorter ones are answered.

Some providers require another plan for long prompts, or have a separate limit for them, and answer with an ordinary
429. Pausing the model would hold up jobs with short prompts. So after a few 429s to requests that were all longer than
everything answered lately, such a 429 concerns only its own job.
"""

import math
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

#: Seconds for which an answer counts.
LATELY: Final = 600.0

#: How many answers are needed before a 429 can be about size.
ENOUGH: Final = 20

#: How much longer than every answered request a refused one must be: a factor.
LONGER: Final = 1.25

#: How many 429s in a row must be about size before one concerns only its own job.
IN_A_ROW: Final = 3


@dataclass(slots=True)
class _Model:
    """The latest answers as (time, size), and how many 429s in a row only longer requests got."""

    answered: deque[tuple[float, int]] = field(default_factory=lambda: deque(maxlen=200))
    refused: int = 0
    shortest: float = math.inf


class Sizes:
    """What this worker has seen of each bucket. Sizes are the estimated tokens of the prompt."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._models: dict[str, _Model] = {}

    def answered(self, bucket: str, size: int) -> None:
        """Record an answered request."""
        found = self._models.setdefault(bucket, _Model())
        found.answered.append((self._clock(), size))
        if size >= found.shortest:
            found.refused, found.shortest = 0, math.inf

    def refused(self, bucket: str, size: int) -> bool:
        """Record a 429. Returns whether it is about the size of the request."""
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
