"""Whether a line asks again, and how."""

import pytest

from tasks.answers.again import MAX_CEILING, Again, after_refusal, next_answer
from tasks.answers.checks import Checked, Result
from workers.config.workflow_settings import WorkflowSettings

OWN = Again()


def asked(
    result: Result,
    answers: int,
    *,
    most: int = 3,
    escalate: str | None = None,
    now: Again = OWN,
    ceiling: int | None = 50,
) -> Again | None:
    settings = WorkflowSettings(on_invalid="retry", max_answers=most, escalate=escalate)
    return next_answer(Checked(result), settings, answers=answers, now=now, ceiling=ceiling)


@pytest.mark.parametrize("result", ["valid", "unchecked"])
def test_a_right_answer_ends_its_line(result: Result) -> None:
    assert asked(result, 1, escalate="large") is None


@pytest.mark.parametrize("on_invalid", ["keep", "fail"])
def test_only_retry_asks_again(on_invalid: str) -> None:
    settings = WorkflowSettings.model_validate({"on_invalid": on_invalid})
    assert next_answer(Checked("invalid"), settings, answers=1, now=OWN, ceiling=50) is None


@pytest.mark.parametrize(
    ("result", "answers", "expected"),
    [
        ("invalid", 1, OWN),
        ("empty", 1, OWN),
        ("invalid", 2, Again("large")),
        ("invalid", 3, None),
        ("refused", 1, Again("large")),
        ("filtered", 1, Again("large")),
        ("truncated", 1, Again(ceiling=100)),
        ("truncated", 2, Again("large", 100)),
    ],
)
def test_the_last_answer_comes_from_the_stronger_model(result: Result, answers: int, expected: Again | None) -> None:
    assert asked(result, answers, escalate="large") == expected


@pytest.mark.parametrize("result", ["refused", "filtered"])
def test_who_refused_is_not_asked_again(result: Result) -> None:
    assert asked(result, 1) is None
    assert asked(result, 2, escalate="large", now=Again("large")) is None


def test_a_line_stays_with_the_stronger_model() -> None:
    assert asked("invalid", 2, escalate="large", now=Again("large")) == Again("large")


def test_a_raised_ceiling_stays_raised() -> None:
    assert asked("invalid", 2, now=Again(ceiling=100), ceiling=100) == Again(ceiling=100)


def test_a_ceiling_that_was_not_sent_cannot_be_raised() -> None:
    assert asked("truncated", 1, ceiling=None) is None
    assert asked("truncated", 1, ceiling=None, escalate="large") == Again("large")


def test_a_ceiling_is_raised_up_to_a_limit() -> None:
    assert asked("truncated", 1, ceiling=MAX_CEILING - 1) == Again(ceiling=MAX_CEILING)
    assert asked("truncated", 1, ceiling=MAX_CEILING) is None


def test_one_answer_is_all_if_the_workflow_says_so() -> None:
    assert asked("invalid", 1, most=1, escalate="large") is None


def test_a_refused_ceiling_is_not_raised_for_the_stronger_model() -> None:
    assert after_refusal(Again(ceiling=100), "large") == Again("large")
    assert after_refusal(Again("large", 100), "large") == Again("large")
    assert after_refusal(Again("large"), "large") is None  # the ceiling was not the reason
    assert after_refusal(Again(ceiling=100), None) is None
