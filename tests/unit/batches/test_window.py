"""The window with its real constants: lines of 100 bytes to 16 MB, in 1 to 2,000 live batches."""

import random
from collections.abc import Iterable
from dataclasses import dataclass

import pytest

from tasks.batches.window import WINDOW_BYTES, WINDOW_JOBS, floor, room

LINES = (100, 1_000, 2_800, 10_000, 126_000, 160_000, 1_000_000, 10_000_000, 16_000_000)


class Pool:
    """All live batches, and what they have out."""

    def __init__(self, lines: Iterable[tuple[int, int]]) -> None:
        self.used = 0
        self.batches = [Some(self, each, left) for each, left in lines]


@dataclass
class Some:
    """A batch with lines of `each` bytes."""

    pool: Pool
    each: int
    left: int
    out: int = 0

    def feed(self) -> int:
        found = room(out=self.out, leased=0, left=self.left, each=self.each, used=self.pool.used)
        self.left -= found
        self._move(found)
        return found

    def end(self, count: int) -> None:
        self._move(-count)

    def _move(self, count: int) -> None:
        self.out += count
        self.pool.used += count * self.each


@pytest.mark.parametrize("each", LINES)
def test_a_single_batch_stays_within_the_bytes(each: int) -> None:
    pool = Pool([(each, 20_000)])
    (batch,) = pool.batches
    while batch.left or batch.out:
        fed = batch.feed()
        assert batch.out <= WINDOW_JOBS
        assert pool.used <= WINDOW_BYTES
        assert fed or batch.out, "nothing is out, and nothing is handed out"
        batch.end(batch.out - batch.out * 3 // 4)


@pytest.mark.parametrize("lives", [2, 45, 130, 300, 2_000])
@pytest.mark.parametrize("each", LINES)
def test_every_batch_gets_a_window_while_no_job_ends(lives: int, each: int) -> None:
    pool = Pool([(each, 1_000)] * lives)
    for _ in range(3):
        for batch in pool.batches:
            batch.feed()
    assert pool.used <= 2 * WINDOW_BYTES + lives * floor()
    if each <= floor() or lives * each <= WINDOW_BYTES:
        assert all(batch.out for batch in pool.batches), "one batch starves another"
    assert pool.used >= min(WINDOW_BYTES // 2, lives * min(each * 1_000, WINDOW_BYTES // 2))


@pytest.mark.parametrize("seed", range(5))
def test_batches_with_lines_of_any_size_all_end(seed: int) -> None:
    chance = random.Random(seed)
    lives = (1, 3, 20, 60, 200)[seed]
    pool = Pool((round(10 ** chance.uniform(2, 7.2)), chance.randint(1, 300)) for _ in range(lives))
    going = pool.batches
    for _ in range(50_000):
        batch, before = chance.choice(going), pool.used
        batch.feed()
        assert pool.used <= max(before, 2 * WINDOW_BYTES + lives * floor())
        batch.end(chance.randint(0, batch.out))
        if not batch.left:
            batch.end(batch.out)
            going = [each for each in going if each.left]
        if not going:
            break
    assert not going


def test_a_new_batch_gets_a_window_beside_two_thousand() -> None:
    pool = Pool([(1_000, 400)] * 2_000 + [(1_000, 5)])
    for batch in pool.batches[:-1]:
        batch.feed()
    assert pool.batches[-1].feed() == 5


def test_jobs_in_flight_widen_the_window() -> None:
    assert room(out=4_000, leased=3_000, left=10_000, each=100, used=400_000) == 3_000
    assert room(out=4_000, leased=300, left=10_000, each=100, used=400_000) == 0, "not worth a step"
    assert room(out=4_000, leased=300, left=100, each=100, used=400_000) == 100, "it is all there is"
