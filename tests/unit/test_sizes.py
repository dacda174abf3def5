"""Which 429s are about the size of a request."""

import random

import pytest

from tasks.jobs.sizes import ENOUGH, IN_A_ROW, LATELY, LONGER, Sizes


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def seen(answers: int = ENOUGH, size: int = 100) -> tuple[Sizes, Clock]:
    clock = Clock()
    sizes = Sizes(clock)
    for _ in range(answers):
        sizes.answered("b", size)
    return sizes, clock


def refusals(sizes: Sizes, size: int, count: int = IN_A_ROW + 1) -> list[bool]:
    return [sizes.refused("b", size) for _ in range(count)]


def test_the_fourth_429_of_longer_requests_is_about_size() -> None:
    sizes, _ = seen()
    assert refusals(sizes, 1000) == [False, False, False, True]
    assert sizes.refused("b", 2000)
    assert not sizes.refused("other", 2000)


@pytest.mark.parametrize("size", [50, 100, round(100 * LONGER)])
def test_a_429_at_an_answered_size_concerns_every_job(size: int) -> None:
    sizes, _ = seen()
    refusals(sizes, 1000)
    assert not sizes.refused("b", size)
    assert not sizes.refused("b", 1000), "and those before it prove nothing"


def test_few_or_old_answers_prove_nothing() -> None:
    few, _ = seen(ENOUGH - 1)
    assert not any(refusals(few, 1000))
    old, clock = seen()
    clock.now += LATELY + 1
    assert not any(refusals(old, 1000))


def test_an_answer_to_a_long_request_disproves_it() -> None:
    sizes, _ = seen()
    refusals(sizes, 1000)
    sizes.answered("b", 1000)
    assert not any(refusals(sizes, 1000))
    assert not any(refusals(sizes, 1200))


def test_429s_to_requests_of_all_sizes_are_never_about_size() -> None:
    pick = random.Random(5)
    for _ in range(200):
        sizes, _ = seen(0)
        for _ in range(200):
            size = round(pick.lognormvariate(6, 0.7))
            if pick.random() < 0.5:
                assert not sizes.refused("b", size)
            else:
                sizes.answered("b", size)
