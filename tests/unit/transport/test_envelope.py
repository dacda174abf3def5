"""A delivered message is looked at before Celery acts on it, from whichever broker it comes."""

import json
import math
from types import SimpleNamespace
from typing import Any

import pytest

from workers.transport.envelope import unreadable

BODY = '[[], {"job": {}}, {}]'


def message(body: Any, **headers: Any) -> Any:
    return SimpleNamespace(
        headers={"task": "overnight.job", "id": "one", **headers},
        content_type="application/json",
        content_encoding="utf-8",
        body=body,
        properties={},
    )


@pytest.mark.parametrize("body", [BODY, BODY.encode()], ids=["text, as py-amqp has it", "bytes, as Redis has it"])
def test_a_body_is_parsed_once_from_text_or_bytes(body: Any) -> None:
    found = message(body)
    assert unreadable(found, lambda task: task == "overnight.job") is None
    assert found._decoded_cache == [[], {"job": {}}, {}]


@pytest.mark.parametrize("encode", [str, str.encode], ids=["text", "bytes"])
def test_only_kombu_interprets_types_and_not_in_jobs(encode: Any) -> None:
    body = '[[], {"at": {"__type__": "datetime", "__value__": "2026-01-01T00:00:00"}}, {}]'
    found = message(encode(body))
    assert unreadable(found, lambda _: True) is None
    assert found._decoded_cache == json.loads(body)
    other = message(encode(body), task="someones.own")
    assert unreadable(other, lambda _: True) is None
    assert not hasattr(other, "_decoded_cache")


def test_the_third_part_of_a_jobs_body_is_ignored() -> None:
    found = message('[[], {}, {"delivery_info": {"routing_key": "workflow.victim"}, "id": "other", "callbacks": null}]')
    assert unreadable(found, lambda _: True) is None
    assert found._decoded_cache == [[], {}, {}]


@pytest.mark.parametrize(
    ("broken", "words"),
    [
        (message("no JSON"), "its body is no JSON"),
        (message(b"\xff"), "its body is no JSON"),
        (message("{}"), "its body is not a task's arguments"),
        (message("[[], {}]"), "its body is not a task's arguments"),
        (message('[[], {}, {"callbacks": [{"task": "any"}]}]'), "its body asks for callbacks"),
        (message('[[], {}, {"chord": {"task": "any"}, "errbacks": [1]}]'), "its body asks for errbacks, chord"),
        (message(BODY, id=7), "its headers name no task and id"),
        (message(BODY, task="celery.map"), "its task 'celery.map' is unknown here"),
        (message(BODY, id=""), "its header id is not 1 to 128"),
        (message(BODY, id="x" * 129), "its header id is not 1 to 128"),
        (message(BODY, id="../../srv"), "its header id is not 1 to 128"),
        (message(BODY, id="x\n[CRITICAL] forged \x1b[31m"), "its header id is not 1 to 128"),
        (message(BODY, parent_id=["<b>"]), "its header parent_id is not 1 to 128"),
        (message(BODY, shadow="another"), "its header shadow is set"),
        (message(BODY, stamped_headers=5), "its header stamped_headers is set"),
        (message(BODY, eta="soon"), "its header eta is no time"),
        (message(BODY, eta=5), "its header eta is no time"),
        (message(BODY, eta="0001-01-01T00:00:00+14:00"), "its header eta is no time"),
        (message(BODY, expires="9999-12-31T23:59:59Z"), "its header expires is no time"),
        (message(BODY, expires=False), "its header expires is no time"),
        (message(BODY, retries=-1), "its header retries is no number"),
        (message(BODY, retries=True), "its header retries is no number"),
        (message(BODY, timelimit=["a", "b"]), "its header timelimit is not two numbers"),
        (message(BODY, timelimit=[1, 2, 3]), "its header timelimit is not two numbers"),
        (message(BODY, timelimit=[-1, None]), "its header timelimit is not two numbers"),
        (message(BODY, timelimit=[math.inf, None]), "its header timelimit is not two numbers"),
        (message(BODY, timelimit=[True, None]), "its header timelimit is not two numbers"),
        (message(BODY, timelimit={}), "its header timelimit is not two numbers"),
    ],
)
def test_a_problem_is_reported_in_words(broken: Any, words: str) -> None:
    assert (unreadable(broken, lambda _: True) or "").startswith(words)


def test_an_encoding_that_decompresses_is_refused() -> None:
    for encoding in ("bz2_codec", "utf-16", {"a": 1}, [1], 5, True):
        found = message(BODY)
        found.content_encoding = encoding
        assert (unreadable(found, lambda _: True) or "").startswith("its content encoding is ")


@pytest.mark.parametrize(
    "headers",
    [
        {"timelimit": None},
        {"timelimit": [None, None]},
        {"timelimit": [5, 2.5]},
        {"root_id": "0b1e-4:a.b_c", "parent_id": None, "group": None, "shadow": None, "retries": 3},
        {"eta": "2026-01-01T00:00:00Z", "expires": "2026-01-01"},
    ],
    ids=str,
)
def test_celerys_own_headers_are_accepted(headers: dict[str, Any]) -> None:
    assert unreadable(message(BODY, **headers), lambda _: True) is None
