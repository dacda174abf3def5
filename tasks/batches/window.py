"""How many of a batch's jobs may be out at once: in its workflow's queue, or in flight.

Redis holds every message until its job has ended, so the bytes of all live batches together are bounded. The bytes
are shared by dynamic thresholds (Choudhury and Hahne, 1998): a batch may hold three times what is left free. So one
batch alone gets three quarters of the whole, several get equal shares, and there is always some left for a new one.
However little is left, each batch gets `floor()` bytes, or one line, up to twice the whole.

Pure functions; `tasks/batches/live.py` reads what they need.
"""

from typing import Final

#: At most this many jobs of a batch wait in its queue, beside those in flight.
WINDOW_JOBS = 4_000

#: The bytes of input that are in the queues or in flight, of all live batches together.
WINDOW_BYTES = 48 << 20

#: So many batches can be live with a window of their own when all bytes are taken.
FLOORS: Final = 2_000

#: A window is refilled when this much of it is free, so that a step is worth its while.
REFILL: Final = 0.1


def floor() -> int:
    """The bytes that each batch may have out, whatever the others have."""
    return WINDOW_BYTES // FLOORS


def most_bytes(own: int, used: int) -> int:
    """The bytes that a batch may have out that has `own` out now, `used` bytes being those of all batches."""
    return max(floor(), 3 * (max(0, WINDOW_BYTES - used) + own) // 4)


def most_jobs(own: int, used: int, each: int) -> int:
    """The same in jobs of `each` bytes. 0: a single line does not fit now."""
    found = most_bytes(own, used) // each
    if found or own:
        return max(found, 1)
    return 1 if used + each <= 2 * WINDOW_BYTES or not used else 0


def room(*, out: int, leased: int, left: int, each: int, used: int) -> int:
    """How many jobs to hand out now; 0 while a refill is not worth its while.

    `out` jobs have been handed out and have not ended, `leased` of them are in flight, `left` are yet to be handed
    out; `each` is a line's bytes.
    """
    by_bytes = most_jobs(out * each, used, each)
    found = min(WINDOW_JOBS + leased, by_bytes) - out
    worth = min(REFILL * min(WINDOW_JOBS, by_bytes), left)
    return min(found, left) if found >= max(1.0, worth) else 0
