"""Money and spans of time as people read them."""

import pytest

from workers.figures import dollars, duration


@pytest.mark.parametrize(
    ("nano", "words"),
    [
        (0, "$0.00"),
        (1, "$0.000000001"),
        (100, "$0.0000001"),
        (1_000, "$0.000001"),
        (41_000, "$0.000041"),
        (12_464_000, "$0.012464"),
        (500_000_000, "$0.5"),
        (999_999_900, "$1.00"),
        (1_234_567_890_123, "$1,234.57"),
    ],
)
def test_a_small_sum_keeps_the_digits_it_needs(nano: int, words: str) -> None:
    assert dollars(nano) == words


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (-3, "0 s"),
        (0, "0 s"),
        (59.6, "1 min 00 s"),
        (599, "9 min 59 s"),
        (3_599, "59 min"),
        (7_260, "2 h 01 min"),
        (100_000, "27 h 46 min"),
        (200_000, "2 d 7 h"),
    ],
)
def test_a_time_has_its_two_largest_units(seconds: float, words: str) -> None:
    assert duration(seconds) == words
