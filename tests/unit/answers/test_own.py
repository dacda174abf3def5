"""A workflow's own check: what it may return and raise, how long it may take, and a configuration that names none."""

import asyncio
from typing import Any

import pytest

from tasks.answers import own
from tasks.answers.checks import Checked
from tasks.answers.own import GivenAnswer
from tests.support import own_checks
from workers.config.settings import Settings, SettingsError
from workers.pool.threads import Loop
from workers.providers.endpoints import CHAT

MODULE = "tests.support.own_checks"


def given(text: str) -> GivenAnswer:
    body = {"choices": [{"message": {"content": text}, "finish_reason": "stop"}]}
    return GivenAnswer("job-1", CHAT, {"model": "m"}, body)


def checked(name: str, *texts: str) -> list[Checked]:
    """The results of a check for these answers, all at once."""

    async def everything() -> list[Checked]:
        return await asyncio.gather(*(own.run(f"{MODULE}:{name}", Settings(), given(text)) for text in texts))

    with asyncio.Runner(loop_factory=Loop) as runner:
        return runner.run(everything())


@pytest.mark.parametrize(
    ("name", "text", "result", "reason"),
    [
        ("seven", '{"total": 7}', "valid", ""),
        ("seven", '{"total": 8}', "invalid", "the total is not 7"),
        ("seven", "eight", "invalid", "unexpected character"),
        ("seven", "{}", "unchecked", "raised KeyError: 'total'"),
        ("later", "yes", "valid", ""),
        ("later", "no", "invalid", "it returned False"),
        ("strict", "yes", "valid", ""),
        ("strict", "no", "invalid", "only yes will do"),
        ("broken", "yes", "unchecked", "raised KeyError: 'job-1'"),
        ("quits", "yes", "unchecked", "SystemExit"),
        ("cancels", "yes", "unchecked", "cancelled by its own code"),
        ("stops", "yes", "unchecked", "StopIteration"),
        ("counts", "yes", "unchecked", "returned int"),
        ("missing", "yes", "unchecked", 'has no function "missing"'),
    ],
)
def test_what_a_check_says_is_told(name: str, text: str, result: str, reason: str) -> None:
    [found] = checked(name, text)
    assert (found.result, reason in found.reason) == (result, True), found


@pytest.mark.parametrize("name", ["hangs", "hangs_later"])
def test_a_check_that_hangs_is_given_up(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(own, "MAX_SECONDS", 0.05)
    try:
        found = checked(name, *["yes"] * (own.AT_ONCE + 1))
    finally:
        own_checks.over.set()
    assert {each.result for each in found} == {"unchecked"}
    assert "took more than 0.05 s" in found[0].reason


def test_functions_that_wait_for_a_thread_lose_no_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(own, "MAX_SECONDS", 1.5)
    found = checked("slow", *["yes"] * (8 * own.AT_ONCE))  # the last ones wait for 2.1 s
    assert {each.result for each in found} == {"valid"}


def test_a_check_has_ten_seconds() -> None:
    assert own.MAX_SECONDS == 10


@pytest.mark.parametrize(
    ("check", "words"),
    [
        (f"{MODULE}:missing", 'has no function "missing"'),
        (f"{MODULE}:NUMBER", 'has no function "NUMBER"'),
        (f"{MODULE}:two", 'function "two" of "tests.support.own_checks" must take one argument'),
        ("no_such_module:check", '"no_such_module" cannot be imported: ModuleNotFoundError'),
    ],
)
def test_a_check_that_cannot_be_used_is_reported_at_the_start(check: str, words: str) -> None:
    settings = Settings.model_validate({"workflows": {"nightly": {"check": check}}})
    with pytest.raises(SettingsError) as told:
        own.load(settings)
    assert words in str(told.value)
    assert "workflows.nightly.check" in str(told.value)


@pytest.mark.parametrize("value", ["module", "module:", ":f", "a.b:c.d", "a b:c", 5])
def test_a_check_is_named_by_module_and_function(value: Any) -> None:
    with pytest.raises(ValueError, match=r"module:function|string"):
        Settings.model_validate({"workflows": {"nightly": {"check": value}}})
