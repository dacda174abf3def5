"""Refusals as they are met in the wild, all at one worker: each stops what it is about, and nothing else."""

import json
import re
import time
from collections import Counter
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from tests.support.answering import AnsweringProvider, Call, Reply, completion, message, refusal
from tests.support.site import KEY, Line, Site, job, wait_for
from tests.support.toml import PRICES, provider

OTHER_KEY = "sk-test-zYxWvUtSrQpOnMlKjIhGfEdCbA"
INVALID = {
    "error": {"message": "Incorrect API key provided", "type": "invalid_request_error", "code": "invalid_api_key"}
}
NO_ACCESS = {"error": {"message": "Project `p` does not have access to model `n`", "code": "model_not_found"}}
EXPIRED = [
    {"error": {"code": 400, "message": "API key expired. Please renew the API key.", "status": "INVALID_ARGUMENT"}}
]
BUDGET = {"error": {"message": "Budget has been exceeded! Max budget: 10.0", "type": "budget_exceeded", "code": "400"}}
NO_JSON = {"error": {"message": "Failed to generate JSON.", "code": "json_validate_failed", "failed_generation": "{"}}
UNSUPPORTED = {
    "error": {
        "message": "Unsupported parameter: 'max_tokens' is not supported with this model.",
        "param": "max_tokens",
        "code": "unsupported_parameter",
    }
}
LONG = {"type": "error", "error": {"type": "rate_limit_error", "message": "Extra usage is required for long context."}}
FULL = {"error": {"message": "Resource Unavailable", "code": "resource_unavailable"}}
SLOW_DOWN = {"error": {"message": "Rate limit reached", "type": "requests", "code": "rate_limit_exceeded"}}
SIXTY = {
    "x_ratelimit_limit_requests": "60",
    "x_ratelimit_remaining_requests": "0",
    "x_ratelimit_reset_requests": "1s",
    "retry_after": "1",
}
NO_CHOICES = {"choices": None, "usage": {"prompt_tokens": 1_396, "completion_tokens": 0, "total_tokens": 1_396}}
PAGE = "<!DOCTYPE html><title>Attention Required!</title>"

#: What a provider answers to a call that is the n-th that it gets.
Answering = Callable[[Call, int], Reply]


def minimax(code: int, words: str) -> Reply:
    """A refusal with status 200."""
    return refusal(200, {"id": "x", "choices": None, "base_resp": {"status_code": code, "status_msg": words}})


class Minutes:
    """A gateway that counts 120 requests in each minute since its first one, and never says when a minute ends."""

    def __init__(self) -> None:
        self.counts: Counter[int] = Counter()
        self.began = 0.0

    def __call__(self, call: Call, _: int) -> Reply:
        self.began = self.began or call.at
        minute = int((call.at - self.began) / 60)
        self.counts[minute] += 1
        left = 120 - self.counts[minute]
        stated = {"x_ratelimit_limit_requests": "120", "x_ratelimit_remaining_requests": str(max(0, left))}
        return completion("fine", **stated) if left >= 0 else refusal(429, SLOW_DOWN, **stated)


def number_of(call: Call) -> int:
    """The number in the prompt of a job."""
    return int(re.findall(r"number (\d+)", call.text)[0])


class Wild:
    """A provider of many: what each answers, by the first part of its path. `healed` ones answer well."""

    def __init__(self) -> None:
        self.healed: set[str] = set()
        self.met: Counter[str] = Counter()
        self.replies: dict[str, Answering] = {
            "models": lambda call, _: refusal(403, NO_ACCESS) if call.model == "n" else completion("fine"),
            "firewall": lambda call, _: refusal(403, PAGE) if "number 7." in call.text else completion("fine"),
            "flaky": lambda _, count: refusal(401, INVALID) if count == 20 else completion("fine"),
            "json": lambda _, count: refusal(400, NO_JSON) if count == 1 else completion("fine"),
            "ceiling": lambda call, _: refusal(400, UNSUPPORTED) if "max_tokens" in call.body else completion("fine"),
            "long": lambda call, _: refusal(429, LONG) if len(call.text) > 1000 else message("fine"),
            "flex": lambda call, _: refusal(429, FULL) if "service_tier" in call.body else completion("fine"),
            "expired": lambda _, __: refusal(400, EXPIRED),
            "budget": lambda _, __: refusal(400, BUDGET),
            "denied": lambda _, __: minimax(1004, "not authorized"),
            "broke": lambda _, __: minimax(1008, "insufficient balance"),
            "empty": lambda call, _: refusal(200, NO_CHOICES) if number_of(call) % 2 else completion("fine"),
            "once": lambda _, count: refusal(429, SLOW_DOWN, **SIXTY) if count == 1 else completion("fine"),
            "states": Minutes(),
            "rotated": lambda call, _: completion("fine") if call.key == OTHER_KEY else refusal(401, INVALID),
        }

    def __call__(self, call: Call) -> Reply:
        name = call.path.split("/")[1]
        self.met[name] += 1
        return completion("fine") if name in self.healed else self.replies[name](call, self.met[name])


def toml(raw: AnsweringProvider, wild: Wild, key: Path) -> str:
    tables = ['budget_usd = 5.0\n[workflows.nightly]\ndeadline = "1h"\n']
    for name in wild.replies:
        address = raw.base_url.removesuffix("/v1")
        secret = f"file:{key}" if name == "rotated" else "env:ACME_KEY"
        api = "anthropic" if name == "long" else "openai"
        models = {"m": PRICES + ("rpm = 6_000" if name == "once" else ""), "n": PRICES}
        tables.append(provider(f"{address}/{name}/v1", name, api=api, key=f'"{secret}"', models=models))
    return "".join(tables)


def lines(name: str, count: int, *, model: str = "m", start: int = 0, **more: Any) -> list[Line]:
    found = [job(number, model=f"{name}/{model}", **more) for number in range(start, start + count)]
    for line in found:
        line["custom_id"] = f"{name}-{line['custom_id']}"
        if name == "long":
            line["url"] = "/v1/messages"
        if name == "ceiling":
            del line["body"]["max_tokens"]
    return found


@pytest.mark.long
@pytest.mark.timeout(900)
def test_each_refusal_stops_what_it_is_about_and_nothing_else(tmp_path: Path) -> None:
    wild, key = Wild(), tmp_path / "key"
    key.write_text(KEY)
    with AnsweringProvider(wild) as raw, Site(tmp_path, toml=toml(raw, wild, key)) as site:
        site.start_worker()
        dead = ("expired", "budget", "rotated", "denied", "broke")
        waits = site.submit([line for name in dead for line in lines(name, 30)])
        stated = site.submit([*lines("once", 200), *lines("states", 180)])
        flex = site.submit(lines("flex", 3, service_tier="flex"))
        ends = site.submit(
            [
                *lines("models", 10),
                *lines("models", 10, model="n", start=10),
                *lines("firewall", 50),
                *lines("flaky", 200),
                *lines("json", 10),
                *lines("ceiling", 20),
                *lines("long", 300),
                *lines("long", 20, start=300, text="long " * 400),
                *lines("flex", 30, start=10),
                *lines("empty", 60),
            ]
        )
        status = site.wait(ends, seconds=240)
        assert status["request_counts"] == {"total": 710, "completed": 649, "failed": 61}
        _, errors = site.results(ends)
        failed = Counter((line["custom_id"].partition("-")[0], line["error"]["code"]) for line in errors)
        assert failed == {
            ("models", "model_not_found"): 10,
            ("firewall", "http_403"): 1,
            ("long", "rate_limit_error"): 20,
            ("empty", "content_filter"): 30,
        }
        assert wild.met["empty"] == 60
        assert wild.met["models"] == 20
        assert wild.met["firewall"] == 49 + 5
        assert wild.met["flaky"] == 201
        assert wild.met["json"] == 11
        assert wild.met["ceiling"] <= 20 + 20
        assert wild.met["long"] <= 300 + 20 * 6

        # Limits that answers state hold from the first one on; one that only a refusal states is given up.
        assert site.wait(stated, seconds=120)["request_counts"]["completed"] == 380
        assert wild.met["states"] <= 180 + 15
        once = [call.at for call in raw.calls if call.path.startswith("/once/")]
        assert len(once) == 201
        assert max(later - earlier for earlier, later in pairwise(once[:30])) > 0.9
        assert once[-1] - once[0] < 90, "at 60 a minute it would take 200 s"

        # The dead accounts: few calls, no job failed, the reason is shown.
        shown = json.loads(site.run("limits", "--json").stdout)
        reasons = {each["account"]: each["reason"] for each in shown["latches"]}
        assert set(reasons) == {f"{name}/0/m" for name in dead}
        assert "does not accept the key" in reasons["expired/0/m"]
        assert "no credit or quota left" in reasons["broke/0/m"]
        assert all(wild.met[name] <= 60 for name in dead)
        assert site.status(waits)["request_counts"]["failed"] == 0
        assert site.status(flex)["request_counts"]["failed"] == 0

        # They recover once the account is paid or the key is replaced.
        wild.healed |= {"expired", "budget", "denied", "broke", "flex"}
        key.write_text(OTHER_KEY)
        began = time.monotonic()
        wait_for(lambda: site.status(waits)["request_counts"]["completed"] == 150, 400, every=2.0)
        assert site.wait(flex, seconds=120)["request_counts"]["completed"] == 3
        assert time.monotonic() - began < 400
        assert json.loads(site.run("limits", "--json").stdout)["latches"] == []
