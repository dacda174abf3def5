"""What a refusal is about, and for how long: rows from providers' documentation, SDKs and public bug reports."""

from typing import Any

import pytest

from tests.unit.providers.conftest import error, judge
from workers.providers.errors import (
    AccountBlocked,
    CallFailed,
    Interrupted,
    ProviderError,
    Refused,
    Throttled,
    TooLarge,
    Unavailable,
)
from workers.providers.headers import Level, RateLimits

NO_ACCESS = "Project `proj_example` does not have access to model `n`"
HTML = "<!DOCTYPE html><title>Attention Required!</title>"
EXPIRED = {
    "error": {"code": 400, "message": "API key expired. Please renew the API key.", "status": "INVALID_ARGUMENT"}
}
NOT_VALID = "API key not valid. Please pass a valid API key."
BUDGET = error("Budget has been exceeded! Current cost: 10.5, Max budget: 10.0", "400", "budget_exceeded")
SUSPENDED = "Your account is suspended, please check your plan and billing details"
XAI = "Your team has either used all available credits or reached its monthly spending limit."
GOOD_STANDING = "Access denied, please make sure your account is in good standing."
RESOURCE_UNAVAILABLE = error("Resource Unavailable", "resource_unavailable")
LONG = error("Extra usage is required for long context requests.", kind="rate_limit_error")

# Who, status, body, what it is.
ACCOUNTS: list[tuple[str, int, Any, type[ProviderError]]] = [
    # One model.
    ("openai's project without the model", 403, error(NO_ACCESS, "model_not_found"), Refused),
    (
        "groq's blocked model",
        403,
        error("The model `x` is blocked at the project level.", "model_permission_blocked_project"),
        Refused,
    ),
    (
        "bedrock's missing model access",
        403,
        {"message": "You don't have access to the model with the specified model ID."},
        Refused,
    ),
    ("a 401 about a model", 401, error("This key is not allowed to access model gpt-4o"), Refused),
    # One prompt.
    ("a firewall that takes a prompt for an attack", 403, HTML, CallFailed),
    ("nginx", 403, "403 Forbidden", CallFailed),
    ("an empty 403", 403, None, CallFailed),
    ("azure's filter", 400, error("The response was filtered", "content_filter"), Refused),
    ("moderation", 403, error("Your prompt was blocked", "content_policy_violation"), Refused),
    # The account, by a 400 and others.
    ("gemini's expired key", 400, [EXPIRED], AccountBlocked),
    (
        "gemini's wrong key",
        400,
        [{"error": {"code": 400, "message": NOT_VALID, "status": "INVALID_ARGUMENT"}}],
        AccountBlocked,
    ),
    (
        "gemini's suspended consumer",
        403,
        error("Permission denied: Consumer 'projects/1' has been suspended."),
        AccountBlocked,
    ),
    (
        "groq's restricted organization",
        400,
        error("Organization has been restricted.", "organization_restricted"),
        AccountBlocked,
    ),
    ("anthropic's disabled organization", 400, error("This organization has been disabled."), AccountBlocked),
    ("litellm's budget, 400", 400, BUDGET, AccountBlocked),
    ("litellm's budget, 429", 429, BUDGET, AccountBlocked),
    ("moonshot", 429, error(SUSPENDED, None, "exceeded_current_quota_error"), AccountBlocked),
    ("deepseek", 402, error("Insufficient Balance"), AccountBlocked),
    ("zhipu", 429, error("Insufficient balance or no resource package", "1113"), AccountBlocked),
    ("alibaba", 400, {"code": "Arrearage", "message": GOOD_STANDING}, AccountBlocked),
    (
        "fireworks",
        412,
        error("Account acme is suspended, possibly due to reaching the monthly spending limit"),
        AccountBlocked,
    ),
    ("xai", 403, {"code": "The caller does not have permission", "error": XAI}, AccountBlocked),
    ("openrouter's limited key", 403, error("Key limit exceeded (total limit)"), AccountBlocked),
    ("aws's expired token", 403, {"message": "The security token included in the request is expired"}, AccountBlocked),
    ("a 401 of a proxy", 401, "Unauthorized", AccountBlocked),
    ("a 401 with nothing", 401, None, AccountBlocked),
    # Neither.
    ("a 413 about an account", 413, error("Your account has been restricted to 1 MB"), TooLarge),
    ("a 500 about an account", 500, error("account has been suspended"), CallFailed),
    (
        "gemini's ordinary 429",
        429,
        error("You exceeded your current quota, please check your plan and billing details."),
        Throttled,
    ),
]


@pytest.mark.parametrize(("who", "status", "body", "kind"), ACCOUNTS, ids=[row[0] for row in ACCOUNTS])
def test_what_a_refusal_is_about(who: str, status: int, body: Any, kind: type[ProviderError]) -> None:
    found = judge(status, body)
    assert type(found) is kind, who
    assert found.code
    assert found.message


@pytest.mark.parametrize(
    ("status", "body", "certain"),
    [
        (429, error("…", "insufficient_quota"), True),
        (400, error("Organization has been restricted.", "organization_restricted"), True),
        (429, error(SUSPENDED, None, "exceeded_current_quota_error"), True),
        (400, {"code": "Arrearage", "message": GOOD_STANDING}, True),
        (401, error("Incorrect API key provided", "invalid_api_key"), False),
        (400, [EXPIRED], False),
        (400, BUDGET, False),
        (402, error("This request requires more credits, or fewer max_tokens."), False),
        (400, error("messages[0]: 'my account has been suspended, what now?' is not valid"), False),
    ],
)
def test_only_a_code_blocks_an_account_at_once(status: int, body: Any, certain: bool) -> None:
    found = judge(status, body)
    assert isinstance(found, AccountBlocked)
    assert found.certain == certain


@pytest.mark.parametrize(
    ("status", "body", "kind"),
    [
        (404, "404 page not found", CallFailed),  # Traefik
        (404, "default backend - 404", CallFailed),  # ingress-nginx
        (404, "<html><h1>404 Not Found</h1></html>", CallFailed),
        (404, None, CallFailed),  # Envoy
        (404, {"message": "no Route matched with those values"}, CallFailed),  # Kong
        (404, {"detail": "Not Found"}, CallFailed),  # FastAPI
        (404, {"error_msg": "404 Route Not Found"}, CallFailed),  # APISIX
        (400, "Bad Request", CallFailed),
        (405, "<html>405 Not Allowed</html>", CallFailed),
        (407, "Proxy Authentication Required", CallFailed),
        (404, error("The model does not exist", "model_not_found"), Refused),
        (404, {"error": "model 'x' not found"}, Refused),  # Ollama
        (404, {"object": "error", "message": "The model `x` does not exist.", "code": 404}, Refused),  # vLLM
        (404, {"type": "error", "error": {"type": "not_found_error", "message": "model: x"}}, Refused),  # Anthropic
        (413, "<html>413 Request Entity Too Large</html>", TooLarge),  # nginx
    ],
)
def test_a_4xx_ends_a_job_only_if_the_provider_wrote_it(status: int, body: Any, kind: type[ProviderError]) -> None:
    found = judge(status, body)
    assert type(found) is kind
    assert not found.billed


@pytest.mark.parametrize(
    "body",
    [
        error("Failed to generate JSON.", "json_validate_failed", failed_generation="{"),
        error("Failed to call a function. Please adjust your prompt.", "tool_use_failed", failed_generation="<f"),
        error("Failed to validate JSON. Please adjust your prompt. See 'failed_generation' for more details."),
        error("Model did not output valid JSON."),  # SambaNova
        error("Provider returned error", metadata={"raw": "The model generated invalid tool call"}),  # OpenRouter
    ],
)
def test_invalid_output_of_the_model_is_retried(body: Any) -> None:
    found = judge(400, body)
    assert type(found) is Interrupted
    assert found.spends_attempt


@pytest.mark.parametrize("body", [error("Invalid JSON in request body"), error("'messages' must contain 'json'")])
def test_an_invalid_request_is_not_retried(body: Any) -> None:
    assert type(judge(400, body)) is Refused


@pytest.mark.parametrize(
    ("status", "body", "only_for"),
    [
        (429, RESOURCE_UNAVAILABLE, "tier"),
        (498, error("Flex tier capacity exceeded", "capacity_exceeded"), "tier"),  # Groq
        (429, LONG, "size"),
        (429, error("The long context beta is not yet available for this subscription."), "size"),  # Anthropic
        (429, error("Rate limit reached", "rate_limit_exceeded"), ""),
        (503, error("Resource Unavailable", "resource_unavailable"), ""),
    ],
)
def test_a_throttle_may_be_limited_to_a_tier_or_size(status: int, body: Any, only_for: str) -> None:
    found = judge(status, body)
    assert isinstance(found, Throttled | Unavailable)
    assert found.only_for == only_for


LOCKED = "Your portal is locked. Please try again in 24 hours."


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (200, f'data: {{"choices":[{{"delta":{{"content":"{LOCKED}"}}}}]}}'),
        (200, LOCKED),
        (200, {"choices": [], "message": LOCKED}),
        (500, error(LOCKED)),
        (502, LOCKED),
        (408, error(LOCKED)),
        (404, LOCKED),
    ],
)
def test_other_bodies_are_not_searched_for_a_wait(status: int, body: Any) -> None:
    assert judge(status, body).retry_after is None
    if status > 404:
        assert judge(status, body, {"retry-after": "7"}).retry_after == 7.0


@pytest.mark.parametrize("status", [429, 503, 529])
def test_a_refusals_body_is_searched_for_a_wait(status: int) -> None:
    assert judge(status, error("Please try again in 12s.")).retry_after == 12.0
    assert judge(status, "Please try again in 12s.").retry_after == 12.0


AZURE = (
    "Requests to the ChatCompletions_Create Operation under Azure OpenAI API version 2024-02-01 have exceeded {} rate "
    "limit of your current OpenAI S0 pricing tier. Please retry after 86400 seconds."
)
FULL, EMPTY = Level(100, 50, 1.0), Level(100, 0, 1.0)


@pytest.mark.parametrize(
    ("message", "limits", "wait"),
    [
        (AZURE.format("token"), None, 300.0),
        (AZURE.format("call"), None, 300.0),
        ("Rate limit reached on tokens per min (TPM): Limit 10, Used 10, Requested 1. Try again in 24h.", None, 300.0),
        ("Rate limit reached. Please try again in 24h.", RateLimits(tpm=EMPTY), 300.0),
        ("Rate limit reached. Please try again in 24h.", RateLimits(rpm=EMPTY, tpm=FULL), 300.0),
        ("Rate limit reached. Please try again in 24h.", RateLimits(rpm=EMPTY, rpd=EMPTY), 86_400.0),
        ("Rate limit reached. Please try again in 24h.", RateLimits(rpm=FULL), 86_400.0),
        ("Rate limit reached. Please try again in 24h.", None, 86_400.0),
        ("on requests per day (RPD): Limit 200, Used 200, Requested 1. Please try again in 7h12m.", None, 25_920.0),
        ("on tokens per min (TPM): Limit 10, Used 10, Requested 1. Please try again in 10m.", None, 600.0),
    ],
)
def test_a_wait_that_contradicts_its_limit_is_shortened(message: str, limits: RateLimits | None, wait: float) -> None:
    assert judge(429, error(message), limits=limits).retry_after == wait
