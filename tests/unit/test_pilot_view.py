"""How a pilot looks, and on what terms its batch goes on."""

import time
from collections import Counter

import pytest

from tasks.batches.batch import Batch
from tasks.batches.projection import Projection
from tasks.console import pilot
from tasks.console.options import share_of

FOUND = Projection(20, 1_000, 200, 10_000_000_000, 9_000_000_000, 11_000_000_000, 600.0, Counter(refused=2))


def batch(**fields: object) -> Batch:
    known = {"total": 1_000, "bytes": 1, "storage": "", "created": 0.0, "deadline": time.time() + 3_600, **fields}
    return Batch(id="batch_1", workflow="nightly", name="", status="in_progress", **known)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("terms", "words"),
    [
        (pilot.Terms(), ""),
        (pilot.Terms(yes=True), ""),
        (pilot.Terms(most_invalid=0.1), ""),
        (pilot.Terms(most_invalid=0.05), "10.0% of its lines are invalid, more than 5.0%"),
        (pilot.Terms(yes=True, most_invalid=0.05), "10.0% of its lines are invalid, more than 5.0%"),
        (pilot.Terms(most_usd=10), ""),
        (pilot.Terms(most_usd=9.99), "the batch would cost $10.00, more than $9.99"),
    ],
)
def test_a_pilot_breaks_terms_only_beyond_them(terms: pilot.Terms, words: str) -> None:
    assert terms.broken(FOUND) == words


def shown(of: Batch, capsys: pytest.CaptureFixture[str]) -> str:
    pilot.show(of, FOUND)
    return " ".join(capsys.readouterr().err.split())


def test_a_pilot_shows_ranges_and_reasons(capsys: pytest.CaptureFixture[str]) -> None:
    words = shown(batch(), capsys)
    assert "20 of 1,000 lines" in words
    assert "10.0% (2.8% to 30.1% of all lines): 2 refused" in words
    assert "about $10.00 for the whole batch, between $9.00 and $11.00" in words
    assert "about 10 min for the rest" in words
    assert "deadline" not in words


def test_a_pilot_says_what_lanes_and_a_deadline_change(capsys: pytest.CaptureFixture[str]) -> None:
    words = shown(batch(lanes="batch,live", deadline=time.time() + 60), capsys)
    assert "for the whole batch at the live price" in words
    assert "longer than until its deadline, if all of it is called live" in words


def test_a_percentage_may_have_no_sign_and_no_more_than_100() -> None:
    assert (share_of("5%"), share_of("0.5"), share_of("")) == (0.05, 0.005, None)
    for wrong in ("half", "101%", "-1", "nan"):
        with pytest.raises(ValueError, match="is no percentage"):
            share_of(wrong)
