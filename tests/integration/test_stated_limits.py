"""What a provider states of its limits and waits, as far as it is believed."""

import json
import re
import time
from pathlib import Path

import pytest
from typer.testing import CliRunner

from limits.feedback import resume
from tasks.console.cli import app
from tasks.jobs import admission, attempt, retry
from tests.support import refused
from tests.support.answering import AnsweringProvider, Call, Reply, completion, refusal
from tests.support.delivery import Desk
from tests.support.refused import asking, told
from tests.support.site import job
from tests.support.toml import provider

raw = refused.raw
secret = refused.secret
desk = refused.desk


EXTRA = "Extra usage is required for long context requests."


@pytest.mark.parametrize(
    "words",
    [EXTRA, pytest.param("This request would exceed the rate limit for your organization.", marks=pytest.mark.long)],
)
def test_429s_for_long_prompts_only_do_not_pause_short_ones(
    desk: Desk, raw: AnsweringProvider, monkeypatch: pytest.MonkeyPatch, words: str
) -> None:
    monkeypatch.setattr(retry, "BACKOFF", 0.02)
    refused = {"type": "error", "error": {"type": "rate_limit_error", "message": words}}
    raw.reply = lambda call: refusal(429, refused) if len(call.text) > 1000 else completion("fine")
    assert all(each.answered for each in desk.all(*asking("m", range(30))))
    monkeypatch.setattr(attempt, "MAX_AHEAD", 0.2)
    if words != EXTRA:  # what the message doesn't say is learned from a few of them
        for number in range(3):
            desk.deliver(job(number, model="m", text="long " * 400))
            desk.wait(desk.end_pause("acme/0/m"))
    long = [job(number, model="m", text=f"{number} " + "long " * 400) for number in range(100, 105)]
    ended = desk.all(*long, *asking("m", range(30, 50)))
    assert [each.answered for each in ended] == [False] * 5 + [True] * 20
    assert {told(each.line)["code"] for each in ended[:5]} == {"rate_limit_error"}
    assert "shorter requests are answered" in told(ended[0].line)["message"]
    assert all(not bucket.paused_until for bucket in desk.snapshot().buckets)
    assert all(each.state.throttles == 0 for each in ended[5:])


def test_a_tier_without_capacity_says_nothing_about_standard_work(
    desk: Desk, raw: AnsweringProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retry, "BACKOFF", 30.0)
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


@pytest.mark.long
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
