"""How many of a batch's jobs may be out at once: in its workflow's queue, or in flight.

Redis keeps every message until its job has ended, so the bytes of all live batches together are bounded. They are
shared by dynamic thresholds (Choudhury and Hahne, 1998): a batch may have three times the free bytes. So one batch
alone gets three quarters of all bytes, several get equal shares, and some are always free for a new one. Each batch
gets at least `floor()` bytes, or one line, until twice the limit is used.

These are pure functions; live.py reads what they need.
"""

from typing import Final

#: Jobs of one batch in its queue, besides those in flight.
WINDOW_JOBS = 4_000

#: Bytes of input in the queues or in flight, of all live batches together.
WINDOW_BYTES = 48 << 20

#: Batches that can each have `floor()` bytes.
FLOORS: Final = 2_000

#: A window is refilled when this part of it is free, so that each step publishes many lines.
REFILL: Final = 0.1


def floor() -> int:
    """The bytes that each batch may have out, whatever the others have out."""
    return WINDOW_BYTES // FLOORS


def most_bytes(own: int, used: int) -> int:
    """The bytes that a batch may have out. It has `own` bytes out now, and all batches together have `used`."""
    return max(floor(), 3 * (max(0, WINDOW_BYTES - used) + own) // 4)


def most_jobs(own: int, used: int, each: int) -> int:
    """The same in jobs of `each` bytes; 0 if not even one line fits now."""
    found = most_bytes(own, used) // each
    if found or own:
        return max(found, 1)
    return 1 if used + each <= 2 * WINDOW_BYTES or not used else 0


def room(*, out: int, leased: int, left: int, each: int, used: int) -> int:
    """The number of jobs to publish now; 0 while too little of the window is free.

    `out` jobs are published and have not ended; `leased` of them are in flight. `left` jobs are not published yet. A
    line has `each` bytes.
    """
    by_bytes = most_jobs(out * each, used, each)
    found = min(WINDOW_JOBS + leased, by_bytes) - out
    worth = min(REFILL * min(WINDOW_JOBS, by_bytes), left)
    return min(found, left) if found >= max(1.0, worth) else 0
