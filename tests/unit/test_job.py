"""Lines of the input: which are jobs, and the problems reported for the others."""

from typing import Any

import pytest

from tasks.jobs.job import MAX_CUSTOM_ID, check, decode, received
from tests.support.site import job


def without(key: str) -> dict[str, Any]:
    return {name: value for name, value in job(1).items() if name != key}


@pytest.mark.parametrize(
    ("raw", "words"),
    [
        (b"{not json", "not JSON: "),
        (b"", "not JSON: "),
        (b'{"a": 1} trailing', "not JSON: "),
        (b'{"a": NaN}', "not JSON: "),
        (b'{"a": "\xff"}', "not UTF-8: byte 8 of the line is 0xff"),
        (b"[" * 100_000, "not JSON: "),
        (b'{"seed": 123456789012345678901}', "a number of 21 digits would lose digits"),
        (b'{"body": {"tools": [{"id": -9223372036854775809}]}}', "a number of 19 digits would lose digits"),
        (b'{"at": 3.14159265358979323846}', "a number of 21 digits would lose digits"),
        (b'["000000000000000000", ' + b"[" * 990 + b"]" * 991, "nested too deeply"),
    ],
)
def test_a_line_that_cannot_be_a_job(raw: bytes, words: str) -> None:
    with pytest.raises(ValueError, match="^" + words.replace("(", r"\(")):
        decode(raw)


@pytest.mark.parametrize(
    "raw",
    [
        b'{"seed": 18446744073709551615, "low": -9223372036854775808}',
        b'{"temperature": 0.30000000000000004, "x": 1e300}',
        b'{"content": "123456789012345678901 and 3.14159265358979323846"}',
    ],
)
def test_numbers_that_lose_no_digits_are_accepted(raw: bytes) -> None:
    assert isinstance(decode(raw), dict)


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ([], "must be a JSON object, got a list"),
        (None, "must be a JSON object, got null"),
        (without("custom_id"), "custom_id is missing"),
        (job(1) | {"custom_id": 7}, "custom_id must be a string that is not empty, got a number"),
        (job(1) | {"custom_id": ""}, "custom_id must be a string that is not empty"),
        (job(1) | {"custom_id": "x" * (MAX_CUSTOM_ID + 1)}, "custom_id has 513 characters, 512 at most"),
        (job(1) | {"method": "GET"}, 'method must be "POST", got "GET"'),
        (without("url"), "url must be one of /v1/chat/completions"),
        (job(1) | {"url": "/v1/images"}, 'got "/v1/images"'),
        (without("body"), "body must be an object: it is missing"),
        (job(1) | {"body": "text"}, "body must be an object: got a string"),
        (job(1) | {"body": {"messages": [{"role": "user", "content": "x"}]}}, "body.model must name a model"),
        (job(1, model="acme/" + "x" * 252), "at most 256 characters"),
        (job(1, model="acme/\x1b[2J"), "printable, without spaces"),
        (job(1, model="acme/a b"), "printable, without spaces"),
        (job(1) | {"body": {"model": "small"}}, "body: messages is missing"),
        (job(1) | {"body": {"model": "small", "messages": []}}, "body: messages must be a list with at least one"),
        (job(1) | {"body": job(1)["body"] | {"stream": True}}, "body: stream must be false or absent"),
        (job(1) | {"metadata": {}}, 'unknown keys: "metadata"'),
    ],
)
def test_an_invalid_line_is_refused_with_its_problem(value: Any, words: str) -> None:
    line, problems = check(value)
    assert line is None
    assert any(words in problem for problem in problems), problems


def test_every_problem_of_a_line_is_reported() -> None:
    _, problems = check({"method": "PUT", "url": "x", "body": 1, "more": 2})
    assert len(problems) == 5


def test_a_problem_never_repeats_a_prompt() -> None:
    _, problems = check(job(1) | {"url": "a secret prompt of more than sixty characters, pasted into the wrong field"})
    assert "secret" not in "".join(problems)


def test_method_may_be_left_out() -> None:
    line, problems = check(without("method"))
    assert problems == []
    assert line is not None
    assert line.model == "small"


@pytest.mark.parametrize(
    ("args", "kwargs", "words"),
    [
        ((job(1),), {}, "a job is sent as kwargs"),
        ((), {}, "must be a JSON object"),
        ((), {"job": job(1), "priority": 1}, "unknown arguments: priority"),
        ((), {"job": job(1), "batch": 5}, "batch, line and round must be a batch id and two whole numbers"),
        ((), {"job": job(1), "batch": "b", "line": -1}, "batch, line and round must be"),
        ((), {"job": job(1), "batch": "b", "line": True}, "batch, line and round must be"),
        ((), {"job": job(1), "deadline": "tomorrow"}, "deadline must be seconds since the epoch"),
    ],
)
def test_an_arriving_message_is_checked_again(args: Any, kwargs: Any, words: str) -> None:
    found, problem = received(args, kwargs, task_id="t", workflow="w")
    assert words in problem
    assert found.workflow == "w"


def test_the_id_is_batch_line_and_round_or_the_tasks() -> None:
    one, _ = received((), {"job": job(1)}, task_id="task-1", workflow="w")
    assert one.id.startswith("task-1.")
    same, _ = received((), {"job": job(1)}, task_id="task-1", workflow="w")
    assert same.id == one.id
    for line, workflow in ((job(1), "mallory"), (job(2), "w"), ({"x": 1}, "w")):
        other, _ = received((), {"job": line}, task_id="task-1", workflow=workflow)
        assert other.id != one.id, "whoever repeats a task's id gets a job of its own"
    of_batch, problem = received(
        (), {"job": job(1), "batch": "b", "line": 3, "round": 2, "deadline": 9}, task_id="task-1", workflow="w"
    )
    assert problem == ""
    assert of_batch.id == "b:3:2"
    again, _ = received((), {"job": job(1), "batch": "b", "line": 3, "round": 2}, task_id="task-2", workflow="w")
    assert again.result_id == of_batch.result_id
