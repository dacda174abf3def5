"""The ways to fail: which request has to, and what is sent then."""

import random
import time
from dataclasses import dataclass, field

from tests.simulator import answers
from tests.simulator.answers import ALTERED
from tests.simulator.config import Failure
from tests.simulator.journal import Entry
from tests.simulator.quota import Quota
from tests.simulator.refusals import error_body

# Modes in which the model worked, or may have: a real provider bills those.
BILLED = ALTERED | frozenset(
    {"hang", "reset", "disconnect", "half", "drip", "empty", "html", "garbage", "not_object"}
    | {"error_in_200", "sse_error", "huge", "huge_told"}
)


# What the connection does, beyond sending a whole answer: server.py.
_CONNECTION = frozenset({"hang", "reset", "disconnect", "half", "drip", "huge", "huge_told"})
# Errors in a provider's own words: status, words, code.
_TOLD: dict[str, tuple[int, str, str | None]] = {
    "insufficient_quota": (
        429,
        "You exceeded your current quota, please check your plan and billing details.",
        "insufficient_quota",
    ),
    "spend_cap": (
        400,
        "You have reached your specified API usage limits. You will regain access on 2026-12-01.",
        None,
    ),
    "too_large": (
        429,
        "Request too large for gpt-4o on tokens per min (TPM): Limit 30000, Requested 30601.",
        "rate_limit_exceeded",
    ),
}
_HTML = {"content-type": "text/html"}
# Answers that can't be used: status, body, headers.
_ODD: dict[str, tuple[int, bytes, dict[str, str]]] = {
    "no_message": (500, b'{"error":{}}', {}),
    "integer_code": (500, b'{"error":{"code":500,"message":"slot unavailable","type":"server_error"}}', {}),
    "redirect": (302, b"", {"location": "http://127.0.0.1:9/elsewhere"}),
    "empty": (200, b"", {}),
    "html": (200, b"<html><body>Welcome to the hotel's network</body></html>", _HTML),
    "html502": (502, b"<html><h1>502 Bad Gateway</h1></html>", _HTML),
    "garbage": (200, b'{"choices": [{"message": \xff\xfe', {}),
    "not_object": (200, b"[1, 2, 3]", {}),
    # How OpenRouter reports that the provider behind it failed.
    "error_in_200": (200, b'{"error":{"message":"Provider returned error","code":502}}', {}),
    "sse_error": (
        200,
        (b'event: error\ndata: {"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}\n\n'),
        {"content-type": "text/event-stream"},
    ),
}


@dataclass(slots=True)
class Plan:
    """What to send, when, and how. `mode` names what the connection does beyond sending a whole answer."""

    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    delay: float = 0.0
    mode: str = ""
    seconds: float = 0.0
    id_header: str = "x-request-id"
    entry: Entry | None = None
    quota: Quota | None = None
    output: int = 0


@dataclass(slots=True)
class _Rule:
    failure: Failure
    since: float
    met: int = 0
    done: int = 0


class Rules:
    """The failures that are configured, with how often each has been met and has struck."""

    def __init__(self, failures: list[Failure], seed: int) -> None:
        now = time.monotonic()
        self.rules = [_Rule(failure, now) for failure in failures]
        self.random = random.Random(seed)

    def met(self, model: str, job: str, key: int, tier: str | None = None) -> Failure | None:
        """The failure of a request, if it has one."""
        now = time.monotonic()
        for rule in self.rules:
            failure = rule.failure
            if failure.model is not None and failure.model != model:
                continue
            if failure.job is not None and failure.job not in job:
                continue
            if failure.key is not None and failure.key != key:
                continue
            if failure.tier is not None and failure.tier != tier:
                continue
            elapsed = now - rule.since
            if elapsed < failure.start or (failure.end is not None and elapsed >= failure.end):
                continue
            if failure.times is not None and rule.done >= failure.times:
                continue
            rule.met += 1
            if rule.met <= failure.after or (rule.met - failure.after - 1) % failure.every:
                continue
            if failure.probability < 1 and self.random.random() >= failure.probability:
                continue
            rule.done += 1
            return failure
        return None


def error(api: str, status: int, words: str, code: str | None = None, plan: Plan | None = None) -> Plan:
    """An error in the provider's own form."""
    plan = plan or Plan()
    plan.status, plan.body = status, answers.encoded(error_body(api, status, words, code))
    return plan


def failed(failure: Failure, api: str, key: str, plan: Plan) -> Plan:
    """The plan of a failure."""
    mode = failure.mode
    if plan.entry is not None:
        plan.entry.mode = mode
    if failure.retry_after is not None:
        plan.headers = {**plan.headers, "retry-after": failure.retry_after}
        if plan.entry is not None and failure.retry_after.replace(".", "", 1).isdigit():
            plan.entry.retry_after = float(failure.retry_after)
    plan.seconds = failure.seconds
    if mode in _TOLD:
        status, words, code = _TOLD[mode]
        return error(api, status, words, code if api != "anthropic" else None, plan)
    if mode in _ODD:
        plan.status, plan.body, kind = _ODD[mode]
        plan.headers = {**plan.headers, **kind}
    elif mode == "echo_key":
        return error(api, 401, f"Incorrect API key provided: {key}. See the console.", None, plan)
    elif mode in _CONNECTION:
        plan.mode = mode
    else:
        return error(api, int(mode), f"Simulated {mode}", None, plan)
    return plan
