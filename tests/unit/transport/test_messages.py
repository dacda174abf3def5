"""A delivered message is looked at before Celery acts on it, from whichever broker it comes."""

from types import SimpleNamespace
from typing import Any

import pytest

from workers.consumer import unreadable

BODY = '[[], {"job": {}}, {}]'


def message(body: Any, **headers: Any) -> Any:
    return SimpleNamespace(
        headers={"task": "overnight.job", "id": "one", **headers}, content_type="application/json", body=body
    )


@pytest.mark.parametrize("body", [BODY, BODY.encode()], ids=["text, as py-amqp has it", "bytes, as Redis has it"])
def test_a_body_is_read_once_as_text_or_bytes(body: Any) -> None:
    found = message(body)
    assert unreadable(found, lambda task: task == "overnight.job") is None
    assert found._decoded_cache == [[], {"job": {}}, {}]


@pytest.mark.parametrize("encode", [str, str.encode], ids=["text", "bytes"])
def test_what_json_has_no_word_for_is_left_to_kombu(encode: Any) -> None:
    found = message(encode('[[], {"at": {"__type__": "datetime", "__value__": "2026-01-01T00:00:00"}}, {}]'))
    assert unreadable(found, lambda _: True) is None
    assert not hasattr(found, "_decoded_cache")


@pytest.mark.parametrize(
    ("broken", "words"),
    [
        (message("no JSON"), "its body is no JSON"),
        (message(b"\xff"), "its body is no JSON"),
        (message("{}"), "its body is not a task's arguments"),
        (message(BODY, id=7), "its headers name no task and id"),
        (message(BODY, eta="soon"), "its header eta is no time"),
    ],
)
def test_what_is_wrong_is_told_in_words(broken: Any, words: str) -> None:
    assert unreadable(broken, lambda _: True) == words
