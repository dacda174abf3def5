"""Python's garbage collector in a worker: rarely, and not over loaded code.

The collector runs whenever enough objects were made and not yet freed. Hundreds of calls at a time make it run
constantly over everything in memory, which costs a fifth of a busy worker's CPU. With higher thresholds an idle worker
would never collect, so a thread collects once a minute. That also returns messages that were dropped without
acknowledgement to their queue (workers/transport/in_flight.py).
"""

import gc
import threading
import time
from typing import Final

#: Python's thresholds, or those that the application set before this module was loaded.
DEFAULT: Final = gc.get_threshold()

#: The thresholds: new objects before the youngest generation is collected, and rounds before each older one.
RARE: Final = (20_000, 20, 50)

#: Seconds between two collections of everything.
EVERY: Final = 60.0


def collect_rarely(every: float = EVERY) -> None:
    """Exclude what is loaded now from collection, raise the thresholds, and collect everything each `every` seconds.

    Does nothing if the application has set thresholds since this module was loaded.
    """
    if gc.get_threshold() == DEFAULT != RARE:
        gc.collect()
        gc.freeze()
        gc.set_threshold(*RARE)
        threading.Thread(target=_collect, args=(every,), name="garbage", daemon=True).start()


def _collect(every: float) -> None:
    while True:
        time.sleep(every)
        gc.collect()
