"""How often a worker looks for reference cycles: seldom, and not in what it has loaded.

Python's collector goes by objects that were made and not yet freed. Hundreds of calls at a time are enough of these to
have it run all the time, over everything that is loaded and everything in use: a fifth of a busy worker's CPU.
"""

import gc

#: Python's own, unless the application has set others by now.
USUAL = gc.get_threshold()

#: Objects made and not freed before the youngest are looked through; how many such rounds before the next older are.
SELDOM = (20_000, 20, 50)


def collect_seldom() -> None:
    """Leave what is loaded by now out of every later round, and have these come seldom.

    Thresholds that the application has set after this module was loaded stay as they are.
    """
    if gc.get_threshold() == USUAL != SELDOM:
        gc.collect()
        gc.freeze()
        gc.set_threshold(*SELDOM)
