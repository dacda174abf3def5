"""Whose fault a refusal is, at work: what jobs, accounts and pauses become of refusals as they are met in the wild.

The worker's own code over a real server, and a provider whose every answer is written here.
"""

import json
import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from limits.feedback import resume
from tasks.console.cli import app
from tasks.jobs import admission, attempt, retry
from tests.support.answering import AnsweringProvider, Call, Reply, completion, refusal
from tests.support.delivery import Desk
from tests.support.site import job
from tests.support.toml import PRICES, provider
from workers.providers.ceiling import OTHER

KEY, LATER = "sk-test-aBcDeFgHiJkLmNoP", "sk-test-qRsTuVwXyZaBcDeF"
INVALID = {
    "error": {"message": "Incorrect API key provided", "type": "invalid_request_error", "code": "invalid_api_key"}
}


@pytest.fixture(scope="module")
def raw() -> Iterator[AnsweringProvider]:
    with AnsweringProvider(lambda _: completion("fine")) as made:
        yield made


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    file = tmp_path / "key"
    file.write_text(KEY)
    return file


@pytest.fixture
def desk(
    tmp_path: Path, valkey: str, raw: AnsweringProvider, secret: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Desk]:
    monkeypatch.setattr(retry, "BACKOFF", 0.02)
    raw.clear()
    acme = provider(raw.base_url, key=f'"file:{secret}"', models={"m": PRICES, "n": PRICES})
    with Desk(tmp_path, valkey, "budget_usd = 5.0\n" + acme) as made:
        yield made


def asking(model: str, numbers: range) -> list[dict[str, Any]]:
    return [job(number, model=model) for number in numbers]


def told(line: dict[str, Any] | None) -> dict[str, Any]:
    assert line is not None
    error: dict[str, Any] = line["error"]
    return error


def test_a_model_that_is_refused_stops_no_other(desk: Desk, raw: AnsweringProvider) -> None:
    words = "Project `proj_example` does not have access to model `n`"
    refused = {"error": {"message": words, "type": "invalid_request_error", "param": None, "code": "model_not_found"}}
    raw.reply = lambda call: refusal(403, refused) if call.model == "n" else completion("fine")
    ended = desk.all(*asking("n", range(10)), *asking("m", range(10, 20)))
    assert [each.answered for each in ended] == [False] * 10 + [True] * 10
    assert {told(each.line)["message"] for each in ended[:10]} == {words}
    assert desk.snapshot().blocked_accounts == {}
    assert len(raw.calls) == 20


def test_a_firewall_refuses_one_prompt_of_fifty(desk: Desk, raw: AnsweringProvider) -> None:
    page = "<!DOCTYPE html><title>Attention Required!</title>"
    raw.reply = lambda call: refusal(403, page) if "number 7." in call.text else completion("fine")
    ended = desk.all(*asking("m", range(50)))
    assert [each.answered for each in ended] == [number != 7 for number in range(50)]
    assert "403 with HTML" in told(ended[7].line)["message"]
    assert desk.snapshot().blocked_accounts == {}
    assert len(raw.calls) == 49 + 5


def test_one_prompt_that_is_refused_in_json_fails_alone(desk: Desk, raw: AnsweringProvider) -> None:
    refused = {"error": {"message": "Not allowed", "type": "permission_error"}}
    raw.reply = lambda call: refusal(403, refused) if "number 7." in call.text else completion("fine")
    assert all(each.answered for each in desk.all(*asking("m", range(5))))
    ended = desk.all(*asking("m", range(5, 15)))
    assert [each.answered for each in ended] == [number != 7 for number in range(5, 15)]
    assert told(ended[2].line)["code"] == "permission_error"
    assert desk.snapshot().blocked_accounts == {}


EXPIRED = {
    "error": {"code": 400, "message": "API key expired. Please renew the API key.", "status": "INVALID_ARGUMENT"}
}
RESTRICTED = {"message": "Organization has been restricted.", "code": "organization_restricted"}
BUDGET = {
    "message": "Budget has been exceeded! Current cost: 10.5, Max budget: 10.0",
    "type": "budget_exceeded",
    "code": "400",
}
SUSPENDED = {"message": "Your account is suspended, please check your plan", "type": "exceeded_current_quota_error"}


@pytest.mark.parametrize(
    ("status", "body", "words"),
    [
        (400, [EXPIRED], "does not accept the key"),
        (400, {"error": RESTRICTED}, "suspended the account"),
        (400, {"error": BUDGET}, "no credit or quota left"),
        (429, {"error": BUDGET}, "no credit or quota left"),
        (429, {"error": SUSPENDED}, "suspended the account"),
        (401, INVALID, "does not accept the key"),
        (402, {"error": {"message": "Insufficient credits", "code": 402}}, "no credit or quota left"),
    ],
)
def test_a_dead_account_is_blocked_soon_and_its_jobs_wait(
    desk: Desk, raw: AnsweringProvider, status: int, body: Any, words: str
) -> None:
    raw.reply = lambda _: refusal(status, body)
    ended = desk.all(*asking("m", range(8)))
    assert all(each.snooze is not None and each.snooze.reason.startswith("the account acme") for each in ended)
    assert words in next(iter(desk.snapshot().blocked_accounts.values()))
    assert len(raw.calls) <= 16
    calls = len(raw.calls)
    later = desk.all(*asking("m", range(8, 30)))
    assert all(each.snooze is not None and each.state.attempts == 0 for each in later)
    assert len(raw.calls) == calls
    after = desk.snapshot()
    assert after.open_reservations == 0

    # A call tries it after a while, and its answer ends the block.
    raw.reply = lambda _: completion("fine")
    desk.set_clock(desk.now() + 31)
    assert desk.deliver(job(99, model="m")).answered
    assert desk.snapshot().blocked_accounts == {}
    assert all(each.answered for each in desk.all(*asking("m", range(30, 35))))


def test_a_job_alone_with_a_dead_key_waits(desk: Desk, raw: AnsweringProvider) -> None:
    raw.reply = lambda _: refusal(401, INVALID)
    delivery = desk.deliver(job(1, model="m"))
    assert delivery.snooze is not None
    assert "acme/0/m" in desk.snapshot().blocked_accounts
    assert len(raw.calls) == 2


def test_one_401_among_good_answers_is_tried_again(desk: Desk, raw: AnsweringProvider) -> None:
    raw.reply = lambda call: refusal(401, INVALID) if call.number == 60 else completion("fine")
    ended = desk.all(*asking("m", range(200)))
    assert all(each.answered for each in ended)
    assert sum(each.state.attempts for each in ended) == 1
    assert len(raw.calls) == 201
    assert desk.snapshot().blocked_accounts == {}


def test_a_key_file_that_is_rewritten_is_a_new_key(desk: Desk, raw: AnsweringProvider, secret: Path) -> None:
    raw.reply = lambda call: completion("fine") if call.key == LATER else refusal(401, INVALID)
    assert all(each.snooze is not None for each in desk.all(*asking("m", range(3))))
    assert desk.snapshot().blocked_accounts
    assert desk.deliver(job(4, model="m")).snooze is not None
    secret.write_text(LATER)
    assert desk.deliver(job(5, model="m")).answered
    assert desk.snapshot().blocked_accounts == {}


@pytest.mark.parametrize(
    "body", ["404 page not found", "<html>404</html>", '{"message":"no Route matched with those values"}']
)
def test_a_404_of_a_router_is_a_failed_attempt(desk: Desk, raw: AnsweringProvider, body: str) -> None:
    raw.reply = lambda call: refusal(404, body) if call.number < 2 else completion("fine")
    delivery = desk.deliver(job(1, model="m"))
    assert delivery.answered
    assert delivery.state.attempts == 2


@pytest.mark.parametrize("code", ["json_validate_failed", "tool_use_failed"])
def test_what_the_model_failed_to_write_is_tried_again(desk: Desk, raw: AnsweringProvider, code: str) -> None:
    failed = {
        "message": "Failed to generate JSON.",
        "type": "invalid_request_error",
        "code": code,
        "failed_generation": "{",
    }
    raw.reply = lambda call: refusal(400, {"error": failed}) if call.number == 0 else completion("fine")
    delivery = desk.deliver(job(1, model="m"))
    assert delivery.answered
    assert delivery.state.attempts == 1


def takes(field: str) -> Callable[[Call], Reply]:
    """A model that takes one name for the ceiling of its answer, and refuses the other as OpenAI does."""
    other = OTHER[field]
    words = f"Unsupported parameter: '{other}' is not supported with this model. Use '{field}' instead."
    error = {"message": words, "type": "invalid_request_error", "param": other, "code": "unsupported_parameter"}
    return lambda call: refusal(400, {"error": error}) if other in call.body else completion("fine")


@pytest.mark.parametrize("field", ["max_completion_tokens", "max_tokens"])
def test_the_name_of_the_ceiling_is_learned_from_one_refusal(desk: Desk, raw: AnsweringProvider, field: str) -> None:
    raw.reply = takes(field)
    lines = [job(number, model="m") for number in range(3)]
    for line in lines:
        line["body"].pop("max_tokens")
    lines[0]["body"][OTHER[field]] = 50
    first, second, third = (desk.deliver(line) for line in lines)
    assert first.answered
    assert second.answered
    assert third.answered
    assert [each.state.attempts for each in (first, second, third)] == [0, 0, 0]
    assert [OTHER[field] in call.body for call in raw.calls] == [True, False, False, False]
    assert [call.body.get(field) for call in raw.calls[1:]] == [50, 4096, 4096]
    assert desk.spent().failed_cost == 0


def test_a_model_that_takes_neither_name_refuses_for_good(desk: Desk, raw: AnsweringProvider) -> None:
    raw.reply = lambda call: takes("max_tokens" if "max_completion_tokens" in call.body else "max_completion_tokens")(
        call
    )
    delivery = desk.deliver(job(1, model="m"))
    assert delivery.failure == "unsupported_parameter"
    assert len(raw.calls) == 2


EXTRA = "Extra usage is required for long context requests."


@pytest.mark.parametrize("words", [EXTRA, "This request would exceed the rate limit for your organization."])
def test_429s_for_long_prompts_only_do_not_pause_short_ones(
    desk: Desk, raw: AnsweringProvider, monkeypatch: pytest.MonkeyPatch, words: str
) -> None:
    monkeypatch.setattr(retry, "THROTTLE", 0.02)
    refused = {"type": "error", "error": {"type": "rate_limit_error", "message": words}}
    raw.reply = lambda call: refusal(429, refused) if len(call.text) > 1000 else completion("fine")
    assert all(each.answered for each in desk.all(*asking("m", range(30))))
    monkeypatch.setattr(attempt, "MAX_AHEAD", 0.2)
    if words != EXTRA:  # what the message doesn't say is learned from a few of them
        for number in range(3):
            desk.deliver(job(number, model="m", text="long " * 400))
            desk.wait(desk.end_pause("acme/0/m"))
    long = [job(number, model="m", text=f"{number} " + "long " * 400) for number in range(100, 110)]
    ended = desk.all(*long, *asking("m", range(30, 80)))
    assert [each.answered for each in ended] == [False] * 10 + [True] * 50
    assert {told(each.line)["code"] for each in ended[:10]} == {"rate_limit_error"}
    assert "shorter requests are answered" in told(ended[0].line)["message"]
    assert all(not bucket.paused_until for bucket in desk.snapshot().buckets)
    assert all(each.state.throttles == 0 for each in ended[10:])


def test_a_tier_without_capacity_says_nothing_about_standard_work(
    desk: Desk, raw: AnsweringProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retry, "THROTTLE", 30.0)
    full = {"message": "Resource Unavailable", "type": "invalid_request_error", "code": "resource_unavailable"}
    raw.reply = lambda call: refusal(429, {"error": full}) if "service_tier" in call.body else completion("fine")
    flex = [job(number, model="m", service_tier="flex") for number in range(3)]
    ended = desk.all(*flex, *asking("m", range(10, 40)))
    assert all(each.snooze is not None and each.state.attempts == 0 for each in ended[:3])
    assert all(each.answered for each in ended[3:])
    assert all(not bucket.paused_until for bucket in desk.snapshot().buckets)


def test_a_day_long_wait_for_a_minute_limit_is_probed(desk: Desk, raw: AnsweringProvider) -> None:
    words = "Requests have exceeded token rate limit of your current tier. Please retry after 86400 seconds."
    refused = {"error": {"code": "429", "message": words}}
    raw.reply = lambda call: refusal(429, refused, retry_after="86400") if call.number == 0 else completion("fine")
    delivery = desk.deliver(job(1, model="m"))
    assert delivery.snooze is not None
    assert delivery.snooze.seconds <= 1.25 * admission.PAUSE_CHECK, "it looks now and then whether the pause is lifted"
    assert delivery.state.attempts == 0
    paused = desk.snapshot().buckets[0].paused_until / 1e6 - desk.now()
    assert paused == pytest.approx(300, abs=10)
    assert desk.run(resume(desk.keys, "acme/0/m")) > 290
    assert desk.deliver(job(2, model="m")).answered


@pytest.mark.parametrize("status", [404, 500])
def test_no_wait_is_read_from_a_quoted_prompt(desk: Desk, raw: AnsweringProvider, status: int) -> None:
    quoted = {
        "error": {
            "message": "Cannot answer: 'Your portal is locked. Please try again in 24 hours.'",
            "type": "not_found",
        }
    }
    raw.reply = lambda call: refusal(status, quoted) if call.number == 0 else completion("fine")
    delivery = desk.deliver(job(1, model="m"), deadline=desk.now() + 30)
    assert delivery.answered if status == 500 else delivery.failure == "not_found"


def limited(tmp_path: Path, valkey: str, raw: AnsweringProvider, model: str, more: str = "") -> Desk:
    """A desk whose model `m` has such limits."""
    raw.clear()
    return Desk(tmp_path, valkey, provider(raw.base_url, key=None, more=more, models={"m": model}))


SIXTY = {
    "x_ratelimit_limit_requests": "60",
    "x_ratelimit_remaining_requests": "0",
    "x_ratelimit_reset_requests": "1s",
    "retry_after": "1",
}
SLOW_DOWN = {"error": {"message": "Rate limit reached", "type": "requests", "code": "rate_limit_exceeded"}}


@pytest.mark.parametrize("follows", [True, False])
def test_a_limit_that_one_refusal_states_is_shown_then_dropped(
    tmp_path: Path, valkey: str, raw: AnsweringProvider, monkeypatch: pytest.MonkeyPatch, follows: bool
) -> None:
    provider = "" if follows else 'rate_limit_headers = "ignore"'
    with limited(tmp_path, valkey, raw, "rpm = 6_000", provider) as desk:
        monkeypatch.setenv("OVERNIGHT_CONFIG", str(desk.settings.file))
        raw.reply = lambda call: refusal(429, SLOW_DOWN, **SIXTY) if call.number == 0 else completion("fine")
        desk.deliver(job(1, model="m"))
        shown = CliRunner().invoke(app, ["limits"]).output
        assert bool(re.search(r"(60|120|240) of 6,000 rpm", shown)) == follows
        (quota,) = json.loads(CliRunner().invoke(app, ["limits", "--json"]).output)["quotas"]
        assert quota["dimensions"]["rpm"]["configured"] == 6_000
        refused, again = raw.calls
        assert 0.95 < again.at - refused.at < 3.0
        began = time.monotonic()
        number = 1
        while desk.snapshot().buckets[0].dimensions[0].limit < (480 if follows else 6_000):
            number += 1
            assert desk.deliver(job(number, model="m")).answered
            assert time.monotonic() - began < 30


def test_a_limit_that_answers_state_applies_without_configuration(
    tmp_path: Path, valkey: str, raw: AnsweringProvider
) -> None:
    def reply(call: Call) -> Reply:
        left = 119 - call.number
        told = {"x_ratelimit_limit_requests": "120", "x_ratelimit_remaining_requests": str(max(0, left))}
        return completion("fine", **told) if left >= 0 else refusal(429, SLOW_DOWN, **told)

    with limited(tmp_path, valkey, raw, "") as desk:
        raw.reply = reply
        ended = desk.all(*asking("m", range(135)))
        (bucket,) = desk.snapshot().buckets
        (dimension,) = bucket.dimensions
        assert (dimension.name, dimension.limit, dimension.configured) == ("rpm", 120, 0)
        assert sum(each.state.throttles for each in ended) <= 5
        assert len(raw.calls) <= 125
