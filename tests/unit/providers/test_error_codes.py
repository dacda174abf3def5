"""Which codes of providers may be shown."""

import pytest

from tests.unit.providers.conftest import KEY
from workers.providers.failures import classify

LEAKS = [KEY, f"invalid_key:{KEY}", KEY[:12] + "...", "bad prompt: Mr X", "PRIVATE_diagnosis", "x" * 41, "a/b", ""]


@pytest.mark.parametrize("word", LEAKS)
@pytest.mark.parametrize("field", ["code", "type", "status"])
@pytest.mark.parametrize("status", [200, 400, 401, 429, 500, 503])
def test_a_code_that_may_be_private_is_hidden(status: int, field: str, word: str) -> None:
    error = classify(status, {}, {"error": {field: word, "message": "m"}}, provider="acme", key=KEY, now=1e9)
    assert error.code in {f"http_{status}", "broken_body"}
    assert word == "" or word not in f"{error} {error!r} {error.advice}"


@pytest.mark.parametrize("word", ["insufficient_quota", "rate_limit_error", "engine.overloaded", "invalid-key"])
def test_a_plain_code_is_shown(word: str) -> None:
    assert classify(500, {}, {"error": {"code": word}}, provider="acme", key=KEY, now=1e9).code == word
