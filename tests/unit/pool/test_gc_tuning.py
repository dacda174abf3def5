"""A worker's garbage collector: rare, but not off, and left alone if the application has set it."""

import subprocess
import sys

PROGRAM = """
import gc, weakref
from workers.pool.gc_tuning import RARE, collect_rarely
{setting}
collect_rarely()
class Ring:
    def __init__(self): self.itself = self
first = weakref.ref(Ring())
kept = []
for _ in range(2 * RARE[0]): kept.append([Ring()])
for each in kept: each.clear()
for _ in range(2 * RARE[0]): Ring()
print(gc.get_threshold(), gc.get_freeze_count() > 1000, first() is None)
"""


def printed(setting: str = "") -> str:
    done = subprocess.run([sys.executable, "-c", PROGRAM.format(setting=setting)], capture_output=True, check=True)
    return done.stdout.decode().strip()


def test_loaded_code_is_excluded_and_cycles_are_still_collected() -> None:
    assert printed() == "(20000, 20, 50) True True"


def test_an_idle_worker_still_collects() -> None:
    program = """
import time, weakref
from workers.pool.gc_tuning import collect_rarely
collect_rarely(every=0.05)
class Ring:
    def __init__(self): self.itself = self
ring = weakref.ref(Ring())
ends = time.monotonic() + 30
while ring() is not None and time.monotonic() < ends: time.sleep(0.01)
print(ring() is None)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True)
    assert done.stdout.decode().strip() == "True"


def test_thresholds_set_by_the_application_stay() -> None:
    assert printed("gc.set_threshold(5000, 5, 5)") == "(5000, 5, 5) False True"
