"""The pilot of a batch: some lines that are picked at random when it is submitted, and answered before the others.

Their places in the input are in `pilot.json` beside it. They are picked by a hash of their custom_id, so the same file
always gets the same pilot. Copies are never picked: they cost nothing.
"""

import hashlib
from functools import lru_cache
from heapq import heappush, heappushpop
from typing import Final

import orjson

from tasks.batches.batch import Batch
from tasks.batches.files import PILOT
from tasks.batches.input import Place
from tasks.batches.prefix_order import PrefixOrder
from tasks.jobs.storage import Files, open_files

#: The most lines of a pilot.
LARGEST: Final = 1_000

#: Batches whose pilots a process keeps in memory.
_KEPT: Final = 16


class Sample:
    """Picks lines while the input is read: at most `count`, each with the same chance."""

    def __init__(self, count: int) -> None:
        self.count = count
        self.seen = 0
        self._picked: list[tuple[int, Place]] = []  # a heap whose first has the largest hash

    def add(self, custom_id: str, place: Place) -> None:
        """Add a line to those that may be picked."""
        self.seen += 1
        if not self.count:
            return
        rank = -int.from_bytes(hashlib.blake2b(custom_id.encode(), digest_size=8).digest())
        if len(self._picked) < self.count:
            heappush(self._picked, (rank, place))
        else:
            heappushpop(self._picked, (rank, place))

    def picked(self) -> list[Place]:
        """The pilot, in the order of the input; empty if it would be the whole batch."""
        return sorted(place for _, place in self._picked) if self.seen > len(self._picked) else []

    def save(self, files: Files, order: PrefixOrder | None = None) -> None:
        """Write the file of the pilot beside the batch's input. `order`: that of the input."""
        if picked := self.picked():
            if order is not None:
                picked = sorted(map(order.place, picked))
            files.put_bytes(PILOT, orjson.dumps([list(place) for place in picked]))


def places(batch: Batch) -> list[Place]:
    """The lines of a batch's pilot; empty if it has none."""
    return _places(batch.storage, batch.id, batch.created) if batch.pilot else []


@lru_cache(maxsize=_KEPT)
def _places(storage: str, batch_id: str, created: float) -> list[Place]:
    """Read the file of the pilot. `created`: the same id may come again after a `clean`."""
    del created
    with open_files(storage, batch_id).open(PILOT) as reading:
        return [Place(*place) for place in orjson.loads(reading.read())]


def pilot_map(batch: Batch) -> bytes:
    """The bitmap of the lines that were handed out as the pilot in this round (line_set.py)."""
    handed_out = places(batch)[: batch.pilot_fed] if batch.pilot_fed else []
    bits = bytearray((handed_out[-1].number >> 3) + 1 if handed_out else 0)
    for place in handed_out:
        bits[place.number >> 3] |= 0x80 >> (place.number & 7)
    return bytes(bits)
