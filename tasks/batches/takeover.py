"""The latest moment of a batch's chunks: from then on its lines are called live, so that they are done in time.

deadline - the time that the rest needs live - the time that cancelling takes - a margin
"""

import time
from typing import Final

from tasks.batches.batch import Batch

#: The rest is expected to take this multiple of its forecast.
SAFETY: Final = 1.25

#: The margin, as a part of the time from the round's begin to the deadline.
MARGIN: Final = 0.02

#: Live calls a second: the most that are counted on, whatever the forecast says. It is one busy worker's pace with slow
#: calls. If more are made, the rest is done early; a takeover that counted on more than it gets would be late.
PACE: Final = 20.0


def seconds_live(batch: Batch) -> float:
    """The seconds that the lines which have not ended need live, by the forecast for the whole batch."""
    return with_safety(batch.expected_seconds * batch.left / max(batch.total, 1), batch.left)


def with_safety(seconds: float, jobs: int) -> float:
    """The seconds to allow for `jobs` live calls that are forecast to take `seconds`."""
    return SAFETY * max(seconds, jobs / PACE)


def latest(batch: Batch, cancel_time: float) -> float:
    """When its chunks are taken over, in seconds since the epoch. `cancel_time`: seconds that cancelling takes."""
    return last_call(batch) - cancel_time


def last_call(batch: Batch) -> float:
    """When the rest must begin live, in seconds since the epoch."""
    margin = MARGIN * (batch.deadline - batch.began)
    return batch.deadline - margin - seconds_live(batch)


def has_time(batch: Batch, cancel_time: float, least: float) -> bool:
    """Whether a chunk that is created now has at least `least` seconds until the latest moment."""
    return latest(batch, cancel_time) - time.time() >= least
