"""Whose fault a refusal is, at work: what jobs, accounts and pauses become of refusals as they are met in the wild.

The worker's own code over a real server, and a provider whose every answer is written here.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tasks.jobs.bucket_calls import FIRST
from tests.support import refused
from tests.support.answering import AnsweringProvider, Call, Reply, completion, refusal
from tests.support.delivery import Desk
from tests.support.refused import LATER, asking, told
from tests.support.site import job
from tests.support.toml import PRICES, provider
from workers.providers.ceiling import OTHER

raw = refused.raw
secret = refused.secret
desk = refused.desk


INVALID = {
    "error": {"message": "Incorrect API key provided", "type": "invalid_request_error", "code": "invalid_api_key"}
}


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
    ended = desk.all(*asking("m", range(FIRST)))
    assert all(each.snooze is not None and each.snooze.reason.startswith("the account acme") for each in ended)
    assert words in next(iter(desk.snapshot().blocked_accounts.values()))
    assert len(raw.calls) <= 16
    calls = len(raw.calls)
    later = desk.all(*asking("m", range(FIRST, 30)))
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


@pytest.mark.parametrize("model", ["prod-gpt5", "ft:o4-mini-2025-04-16:org::abc"])
def test_a_name_of_ones_own_gets_the_ceiling_that_its_model_takes(
    tmp_path: Path, valkey: str, raw: AnsweringProvider, model: str
) -> None:
    """A deployment or a fine-tuned model, and lines without a ceiling."""
    raw.clear()
    raw.reply = takes("max_completion_tokens")
    toml = "budget_usd = 5.0\n" + provider(raw.base_url, key=None, models={f'"{model}"': PRICES})
    with Desk(tmp_path, valkey, toml) as desk:
        for number in range(3):
            line = job(number, model=model)
            del line["body"]["max_tokens"]
            delivery = desk.deliver(line)
            assert delivery.answered
            assert delivery.state.attempts == 0
        assert len(raw.calls) <= 3 + 1
        assert raw.calls[-1].body["max_completion_tokens"] == 4096
        assert desk.spent().failed_cost == 0


def test_a_model_that_takes_neither_name_refuses_for_good(desk: Desk, raw: AnsweringProvider) -> None:
    raw.reply = lambda call: takes("max_tokens" if "max_completion_tokens" in call.body else "max_completion_tokens")(
        call
    )
    delivery = desk.deliver(job(1, model="m"))
    assert delivery.failure == "unsupported_parameter"
    assert len(raw.calls) == 2
