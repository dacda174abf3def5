"""What the checks of a batch have found, in words and numbers, and the answers of one job."""

from tasks.batches.check_counts import again, by_result, words
from tasks.console.checks_view import of_job

MILLI = 10**6  # n$


def test_all_valid_answers_need_no_words() -> None:
    assert (by_result({}), again({}, 0), words({}, 0)) == ({}, None, "")


def test_kept_and_failed_answers_count_together() -> None:
    counts = {"invalid": 1_200, "failed_invalid": 34, "failed_empty": 1, "unchecked": 2}
    assert by_result(counts) == {"invalid": 1_234, "empty": 1, "unchecked": 2}
    assert words(counts, 0) == "1,234 invalid, 1 empty, 2 unchecked"


def test_further_answers_are_told_with_their_cost() -> None:
    counts = {"refused": 4, "again": 180, "fixed": 176}
    assert again(counts, 190 * MILLI) == {"lines": 180, "fixed": 176, "cost_usd": 0.19}
    assert words(counts, 190 * MILLI) == "4 refused, 176 of 180 fixed by further answers for $0.19"


def test_a_job_shows_each_of_its_answers() -> None:
    first = {"provider": "acme", "model": "small", "cost_usd": 0.001, "checks": {"result": "invalid", "reason": "…"}}
    none = {"provider": None, "model": None, "cost_usd": 0.0, "error": {"code": "budget_exceeded", "message": "…"}}
    assert list(of_job({"checks": {"result": "invalid"}, "answers": [first, none]})) == [
        ("checks", "invalid"),
        ("answer 1", "acme/small: invalid, $0.001"),
        ("answer 2", "budget_exceeded"),
    ]
    assert list(of_job({"attempts": 1})) == []  # of a version without checks
