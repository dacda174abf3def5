"""How often a worker looks for reference cycles: seldom, and not in what it has loaded.

Python's collector goes by objects that were made and not yet freed. Hundreds of calls at a time are enough of these to
have it run all the time, over everything that is loaded and everything in use: a fifth of a busy worker's CPU. An idle
worker makes nothing, so there it would never come: once a minute everything is looked through. A message that somebody
dropped goes back to its queue then, if it has not before (workers/transport/in_flight.py).
"""

import gc
import threading
import time
from typing import Final

#: Python's own, unless the application has set others by now.
USUAL: Final = gc.get_threshold()

#: Objects made and not freed before the youngest are looked through; how many such rounds before the next older are.
SELDOM: Final = (20_000, 20, 50)

#: Seconds between two looks at everything.
EVERY: Final = 60.0


def collect_seldom(every: float = EVERY) -> None:
    """Leave what is loaded by now out of every later round, and have these come seldom, but one each `every` seconds.

    Thresholds that the application has set after this module was loaded stay as they are.
    """
    if gc.get_threshold() == USUAL != SELDOM:
        gc.collect()
        gc.freeze()
        gc.set_threshold(*SELDOM)
        threading.Thread(target=_collect, args=(every,), name="garbage", daemon=True).start()


def _collect(every: float) -> None:
    while True:
        time.sleep(every)
        gc.collect()
