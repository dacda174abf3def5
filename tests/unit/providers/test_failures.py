"""What each answer means, row by row, with bodies as providers have sent them."""

import pickle
from typing import Any

import pytest

from workers.providers.decoding import decode
from workers.providers.errors import (
    AccountBlocked,
    Broken,
    CallFailed,
    Interrupted,
    ProviderError,
    Refused,
    Throttled,
    TooLarge,
    Unavailable,
)
from workers.providers.failures import classify

NOW = 1_795_500_000.0
KEY = "sk-proj-aBcDeFgHiJkLmNoPqRsTuVwXyZ"


def judge(status: int, body: Any = None, headers: dict[str, str] | None = None, key: str = KEY) -> ProviderError:
    return classify(status, headers or {}, body, provider="acme", key=key, now=NOW)


def openai(message: str, kind: str = "invalid_request_error", code: str | None = None) -> dict[str, Any]:
    return {"error": {"message": message, "type": kind, "param": None, "code": code}}


def anthropic(kind: str, message: str) -> dict[str, Any]:
    return {"type": "error", "error": {"type": kind, "message": message}, "request_id": "req_1"}


def coded(code: int, message: str, **more: Any) -> dict[str, Any]:
    """An error object with the status as its code: llama.cpp, OpenRouter, Gemini."""
    return {"error": {"code": code, "message": message, **more}}


GEMINI_429 = "You exceeded your current quota, please check your plan and billing details."
TOO_LARGE = "Request too large for gpt-4o on tokens per min (TPM): Limit 30000, Requested 30601."
TOO_LARGE_AS_A_WAIT = "on tokens per minute (TPM): Limit 7000, Used 0, Requested ~12903. Please try again in 50.5s."
THROTTLED = "on tokens per min (TPM): Limit 10000, Used 8554, Requested 3082. Please try again in 9.816s."
REJECTED_INPUT = {
    "type": "extra_forbidden",
    "loc": ["body", "seed"],
    "msg": "Extra inputs",
    "input": "SECRET",
}
ERROR_EVENT = b'event: error\ndata: {"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}\n\n'

# What, status, body, the error that it is, and whether it may have been billed.
ROWS: list[tuple[str, int, Any, type[ProviderError], bool]] = [
    ("500", 500, openai("The server had an error", "server_error"), CallFailed, False),
    ("anthropic 500", 500, anthropic("api_error", "Internal server error"), CallFailed, False),
    ("502 of a gateway", 502, "<html><h1>502 Bad Gateway</h1></html>", CallFailed, True),
    ("504", 504, anthropic("timeout_error", "Timed out"), CallFailed, True),
    ("cloudflare's 524", 524, "<!DOCTYPE html>", CallFailed, True),
    ("cloudflare's 522", 522, "<!DOCTYPE html>", CallFailed, False),
    ("a redirect", 302, None, CallFailed, False),
    ("503", 503, openai("The engine is currently overloaded", "server_error"), Unavailable, False),
    ("llama.cpp that loads", 503, coded(503, "Loading model", type="unavailable_error"), Unavailable, False),
    ("529", 529, anthropic("overloaded_error", "Overloaded"), Unavailable, False),
    ("groq's 498", 498, openai("Flex capacity exceeded", "capacity"), Throttled, False),
    # github.com/FoundationAgents/MetaGPT/issues/523
    ("openai 429", 429, openai(THROTTLED, "tokens", "rate_limit_exceeded"), Throttled, False),
    ("429 without a body", 429, None, Throttled, False),
    # github.com/FoundationAgents/OpenManus/issues/746
    (
        "anthropic 429",
        429,
        anthropic("rate_limit_error", "This request would exceed the rate limit for your organization of 20,000"),
        Throttled,
        False,
    ),
    # github.com/gke-labs/gemini-for-kubernetes-development/issues/1215
    ("gemini 429", 429, [coded(429, GEMINI_429, status="RESOURCE_EXHAUSTED")], Throttled, False),
    ("gemini, no quota", 429, coded(429, "Quota exceeded for metric: m, limit: 0"), AccountBlocked, False),
    # github.com/DrShushen/climb/issues/13
    ("openai too large", 429, openai(TOO_LARGE, "tokens", "rate_limit_exceeded"), TooLarge, False),
    # github.com/danielmiessler/Fabric/issues/364
    ("groq too large", 429, openai(TOO_LARGE_AS_A_WAIT, "tokens", "rate_limit_exceeded"), TooLarge, False),
    ("413", 413, anthropic("request_too_large", "Request exceeds the maximum size"), TooLarge, False),
    ("context length", 400, openai("8193 tokens", code="context_length_exceeded"), TooLarge, False),
    # github.com/ggml-org/llama.cpp/issues/19774
    ("llama.cpp's context, 500", 500, coded(500, "Context size has been exceeded."), TooLarge, False),
    # github.com/oobabooga/textgen/issues/7257
    ("llama.cpp's context, 200", 200, coded(400, "…", type="exceed_context_size_error"), TooLarge, False),
    ("401", 401, openai("Incorrect API key provided", code="invalid_api_key"), AccountBlocked, False),
    ("402", 402, coded(402, "Insufficient credits"), AccountBlocked, False),
    ("403", 403, anthropic("permission_error", "Your API key lacks permission"), AccountBlocked, False),
    # openrouter.ai/docs, Errors: metadata of a moderated input
    ("a flagged prompt", 403, coded(403, "Flagged", metadata={"reasons": ["violence"]}), Refused, False),
    ("insufficient_quota", 429, openai(GEMINI_429, code="insufficient_quota"), AccountBlocked, False),
    ("a billing limit", 400, openai("Reached", code="billing_hard_limit_reached"), AccountBlocked, False),
    # github.com/screenpipe/screenpipe/pull/5653
    (
        "anthropic's own spend cap",
        400,
        anthropic("invalid_request_error", "You have reached your specified API usage limits."),
        AccountBlocked,
        False,
    ),
    # github.com/can1357/oh-my-pi/pull/5418
    (
        "anthropic's tier cap",
        429,
        anthropic("rate_limit_error", "This request would exceed your account's monthly spend limit."),
        AccountBlocked,
        False,
    ),
    ("the same, by code", 429, openai("…", code="enforced_spend_limit_reached"), AccountBlocked, False),
    # github.com/anthropics/claude-code/issues/66314
    (
        "anthropic without credit",
        400,
        anthropic("invalid_request_error", "Your credit balance is too low to access the Anthropic API."),
        AccountBlocked,
        False,
    ),
    ("408", 408, None, Interrupted, False),
    ("409", 409, openai("Conflict"), Interrupted, False),
    ("400", 400, openai("Invalid value for 'temperature'"), Refused, False),
    ("404", 404, openai("The model does not exist", code="model_not_found"), Refused, False),
    # github.com/Gitlawb/openclaude/issues/739
    ("422", 422, {"detail": [REJECTED_INPUT]}, Refused, False),
    # github.com/editor-code-assistant/eca/issues/231
    ("422, nested", 422, {"object": "error", "message": {"detail": [REJECTED_INPUT]}}, Refused, False),
    ("another 4xx", 418, openai("I am a teapot"), Refused, False),
    ("another 4xx, not the provider's", 418, None, CallFailed, False),
    # github.com/anomalyco/opencode/issues/22448
    ("a 502 within a 200", 200, coded(502, "Network connection lost."), CallFailed, True),
    ("a 429 within a 200", 200, coded(429, "Rate limited"), Throttled, False),
    ("a choice that failed", 200, {"choices": [coded(502, "Network lost")]}, CallFailed, True),
    ("a failed response", 200, {"status": "failed", "error": {"code": "server_error"}}, CallFailed, True),
    ("an unfinished response", 200, {"status": "in_progress", "error": None}, CallFailed, True),
    ("an error event in a 200", 200, decode(ERROR_EVENT), Unavailable, True),
    ("html in a 200", 200, "<html>Welcome</html>", CallFailed, True),
    ("nothing in a 200", 200, None, Broken, True),
    ("another object in a 200", 200, {"hello": "world"}, Broken, True),
    ("a list in a 200", 200, [1, 2, 3], Broken, True),
    ("a number in a 200", 200, 17, Broken, True),
    ("an error that is a string", 400, {"error": "bad things"}, Refused, False),
    ("an error without a message", 500, {"error": {}}, CallFailed, False),
    ("an error that is null", 500, {"error": None}, CallFailed, False),
    ("an integer code", 500, coded(500, "slot unavailable", type="server_error"), CallFailed, False),
]


@pytest.mark.parametrize(("what", "status", "body", "kind", "billed"), ROWS, ids=[row[0] for row in ROWS])
def test_row(what: str, status: int, body: Any, kind: type[ProviderError], billed: bool) -> None:  # a table's column
    error = judge(status, body)
    assert type(error) is kind, what
    assert error.billed is billed
    assert error.status == status
    assert error.code
    assert error.message
    assert "SECRET" not in error.message


@pytest.mark.parametrize(
    ("words", "dimension"),
    [
        (THROTTLED, "tpm"),
        ("Rate limit reached for gpt-4o on requests per day (RPD): Limit 200, Used 200, Requested 1.", "rpd"),
        ("on tokens per day (TPD): Limit 100000, Used 99336, Requested 1524", "tpd"),
        ("on requests per minute (RPM): Limit 30, Used 30, Requested 1", "rpm"),
        ("would exceed the rate limit for your organization of 50,000 input tokens per minute", "itpm"),
        ("rate limit of 8,000 output tokens per minute", "otpm"),
        ("of 50 requests per minute and 40,000 tokens per minute", ""),
        (GEMINI_429, ""),
        ("slow down", ""),
    ],
)
def test_the_limit_that_a_429_names(words: str, dimension: str) -> None:
    assert judge(429, openai(words)).dimension == dimension
    assert judge(503, openai(words)).dimension == ""


@pytest.mark.parametrize(
    ("status", "body", "code"),
    [
        (503, openai("Slow down", "server_error"), "slow_down"),
        (503, openai("Please reduce your request rate.", "server_error", "slow_down"), "slow_down"),
        (503, "Slow Down", "slow_down"),
        (503, openai("The engine is currently overloaded", "server_error"), "server_error"),
        (500, openai("Slow down", "server_error"), "server_error"),
        (429, openai("Slow down", "requests", "rate_limit_exceeded"), "rate_limit_exceeded"),
    ],
)
def test_a_503_about_the_rate_has_a_code_of_its_own(status: int, body: Any, code: str) -> None:
    assert judge(status, body).code == code


def test_what_the_kinds_mean_to_circuit_and_attempts() -> None:
    assert [(kind.circuit, kind.spends_attempt) for kind in (Throttled, AccountBlocked, Interrupted)] == [
        ("none", False),
        ("none", False),
        ("none", True),
    ]
    assert {kind.circuit for kind in (CallFailed, Unavailable)} == {"failure"}
    assert {kind.circuit for kind in (Refused, TooLarge)} == {"success"}


@pytest.mark.parametrize("status", [429, 500, 503, 529])
def test_a_wait_is_kept_where_waiting_helps(status: int) -> None:
    assert judge(status, None, {"retry-after": "7"}).retry_after == 7.0


@pytest.mark.parametrize("status", [400, 401, 404])
def test_a_wait_is_not_kept_where_it_does_not(status: int) -> None:
    assert judge(status, openai("…"), {"retry-after": "7"}).retry_after is None


@pytest.mark.parametrize(
    ("status", "body", "words"),
    [
        (401, None, "does not accept the key"),
        (402, None, "no credit or quota left"),
        (403, anthropic("permission_error", "…"), "forbids this to the key"),
        (400, openai("Organization has been restricted.", code="organization_restricted"), "suspended the account"),
        (400, coded(400, "API key expired. Please renew the API key."), "does not accept the key"),
        (429, openai("…", code="insufficient_quota"), "no credit or quota left"),
    ],
)
def test_a_blocked_account_tells_a_person_what_to_do(status: int, body: Any, words: str) -> None:
    advice = judge(status, body).advice
    assert words in advice
    assert "overnight limits --clear acme" in advice


@pytest.mark.parametrize(
    "message",
    [
        f"Incorrect API key provided: {KEY}. You can find your API key at https://example.com.",
        f"Incorrect API key provided: {KEY[:8]}***************{KEY[-4:]}.",
        f"Incorrect API key provided: {KEY[:14]}...",
        f'{{"raw": "{KEY}"}}',
    ],
)
def test_an_echoed_key_is_taken_out_even_where_it_is_masked(message: str) -> None:
    error = judge(401, openai(message, code="invalid_api_key"))
    assert KEY[:8] not in error.message
    assert KEY[-4:] not in error.message
    assert "[key]" in error.message


def test_a_key_in_an_unexpected_place_is_taken_out() -> None:
    raw = {"error": {"message": "Provider returned error", "code": 400, "metadata": {"raw": f"bad key {KEY}"}}}
    assert KEY not in judge(400, raw).message
    assert "bad key" in judge(400, raw).message
    assert KEY not in judge(500, f"failed with {KEY}").message


def test_words_are_bounded_and_on_one_line() -> None:
    error = judge(400, openai("line one\nline two\x00\x1b[31m " + "x" * 100_000, code="c" * 1000 + "\n"))
    assert len(error.message) <= 500
    assert "\n" not in error.message
    assert "\x1b" not in error.message
    assert len(error.code) <= 64
    assert "\n" not in error.code


def test_an_errors_text_holds_none_of_the_providers_words() -> None:
    """str() and repr() go into logs; the provider's words may quote the prompt."""
    error = judge(400, openai("Invalid prompt: 'my secret prompt'", code="invalid_prompt"))
    assert "secret" in error.message
    for text in (str(error), repr(error), f"{error}", repr(error.args)):
        assert "secret" not in text
    assert str(error) == "400 invalid_prompt"


@pytest.mark.parametrize("kind", [Throttled, Unavailable, CallFailed, AccountBlocked, Refused, TooLarge, Interrupted])
def test_errors_survive_pickling(kind: type[ProviderError]) -> None:
    error = kind("words", status=429, code="c", retry_after=1.5, request_id="r", billed=True, advice="a")
    copy = pickle.loads(pickle.dumps(error))
    assert type(copy) is kind
    assert vars(copy) == vars(error)
    assert str(copy) == str(error)


@pytest.mark.parametrize(
    "content",
    [b"", b"  ", b"\xff\xfe\x00", b"{", b"[" * 5000, b'{"a":NaN}', b'"text"', b"1", b"null", b"data: x"],
)
def test_any_bytes_become_an_error(content: bytes) -> None:
    error = judge(200, decode(content))
    assert isinstance(error, CallFailed)
    assert error.message
