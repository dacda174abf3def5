"""The collector of a worker: seldom, but still there; and as the application wants it where it says so."""

import subprocess
import sys

PROGRAM = """
import gc, weakref
from workers.pool.gc_tuning import SELDOM, collect_seldom
{setting}
collect_seldom()
class Ring:
    def __init__(self): self.itself = self
first = weakref.ref(Ring())
kept = []
for _ in range(2 * SELDOM[0]): kept.append([Ring()])
for each in kept: each.clear()
for _ in range(2 * SELDOM[0]): Ring()
print(gc.get_threshold(), gc.get_freeze_count() > 1000, first() is None)
"""


def told(setting: str = "") -> str:
    done = subprocess.run([sys.executable, "-c", PROGRAM.format(setting=setting)], capture_output=True, check=True)
    return done.stdout.decode().strip()


def test_what_is_loaded_is_left_out_and_rings_are_still_collected() -> None:
    assert told() == "(20000, 20, 50) True True"


def test_an_idle_worker_collects_now_and_then() -> None:
    program = """
import time, weakref
from workers.pool.gc_tuning import collect_seldom
collect_seldom(every=0.05)
class Ring:
    def __init__(self): self.itself = self
ring = weakref.ref(Ring())
ends = time.monotonic() + 30
while ring() is not None and time.monotonic() < ends: time.sleep(0.01)
print(ring() is None)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True)
    assert done.stdout.decode().strip() == "True"


def test_thresholds_of_the_application_stay() -> None:
    assert told("gc.set_threshold(5000, 5, 5)") == "(5000, 5, 5) False True"
