"""A provider that repeats the key and the prompt in every field of its errors, headers and bodies.

Keys are nowhere; prompts are in messages, results and files, and in nothing else.
"""

import json
import re
from typing import Any, Final

import pytest

from tests.support.events import Events
from tests.support.privacy import Night, base64_too, metrics, printed, watched
from tests.support.raw_provider import Call, Last, RawProvider, answered, completion
from tests.support.site import KEY, Line, Site, job
from tests.support.toml import provider
from tests.support.watching import USER, ask, flower

PROMPT: Final = "Xylophone-4711"

STATUSES: Final = (200, 400, 404, 429, 500, 503)
#: An account is blocked by a second job's word.
BLOCKING: Final = (401, 401)

pytestmark = [pytest.mark.long, pytest.mark.timeout(240)]


def error(**fields: Any) -> dict[str, Any]:
    return {"error": fields}


def echo(place: str, status: int, said: str) -> bytes:
    """An answer that repeats `said` in one place."""
    match place:
        case "code" | "type" | "status" | "message" | "param":
            return answered(error(**{"message": "Something", place: said}), status)
        case "words of a code":
            return answered(error(message="m", code=re.sub(r"[^A-Za-z0-9]", "_", said)[:40]), status)
        case "slug":
            return answered(error(message="m", type=PROMPT.lower()), status)
        case "number":
            return answered(error(message=said, code=status, metadata={"raw": said, "reasons": [said]}), status)
        case "detail":
            return answered({"detail": [{"loc": ["body", said], "msg": said, "input": said}]}, status)
        case "string":
            return answered({"error": said}, status)
        case "vendor":
            return answered({"choices": None, "base_resp": {"status_code": 1024, "status_msg": said}}, status)
        case "errors":
            return answered({"success": False, "errors": [{"code": 1, "message": said}]}, status)
        case "choice":
            return answered({"choices": [{"error": {"code": said, "message": said}}]}, status)
        case "finish_reason":
            body = completion(said, said, prompt_tokens=said)
            return answered({**body, "model": said, "id": said, "system_fingerprint": said}, status)
        case "text":
            return answered(said.encode(), status, content_type="text/plain")
        case "page":
            return answered(f"<html><title>{said}</title></html>".encode(), status, content_type="text/html")
        case "event":
            event = {"type": "error", "error": {"type": said, "message": said}}
            return answered(f"event: error\ndata: {json.dumps(event)}\n\n".encode(), status)
        case "headers":
            named = ("x_request_id", "retry_after_ms", "x_ratelimit_limit_requests", "date", "server", "content_type")
            return answered(error(message="m"), status, **dict.fromkeys(named, said))
        case "reason":
            return answered(error(message="m"), status).replace(b"Whatever", said.encode())
        case "no HTTP":
            return Last(said.encode() + b"\r\n\r\n")
    return Last(answered(said.encode(), status, content_encoding=said, transfer_encoding=said))


PLACES: Final = (
    *("code", "type", "status", "message", "param", "words of a code", "slug", "number", "detail", "string", "vendor"),
    *("errors", "choice", "finish_reason", "text", "page", "event", "headers", "reason", "no HTTP", "encoding"),
)


def lines() -> list[Line]:
    """A job for each place and status: those that block an account have one of their own."""
    made: list[Line] = []
    for place in range(len(PLACES)):
        for status in (*STATUSES, *BLOCKING):
            number = len(made)
            model = f"b{place}/m" if status in BLOCKING else f"p{place}/m{status}"
            text = f"{PROMPT} {PROMPT.lower()} {number} {place} {status}"
            made.append(job(number, model=model, text=text))
    return made


def config(base_url: str) -> str:
    providers = [
        provider(base_url, f"{name}{place}", more="timeout = 10", models={})
        for place in range(len(PLACES))
        for name in ("p", "b")
    ]
    return "".join(providers) + '[workflows.nightly]\nmax_attempts = 1\ndeadline = "30s"\n'


@pytest.fixture(scope="module")
def night(tmp_path_factory: pytest.TempPathFactory) -> Night:
    def answer(call: Call) -> bytes:
        if not call.text:
            return answered(error(message=KEY, code=KEY), 500)  # the list of models
        *_, place, status = call.text.split()
        return echo(PLACES[int(place)], int(status), f"{KEY}: {call.text}")

    seen = Night()
    folder = tmp_path_factory.mktemp("night")
    with RawProvider(answer) as provider, Site(folder, toml=config(provider.base_url)) as site:
        _run(site, seen, provider)
    for path in folder.rglob("*.log"):
        seen.saw(f"log {path.relative_to(folder)}", path.read_bytes())
    for path in (*folder.rglob("output*.jsonl*"), *folder.rglob("errors*.jsonl*")):
        seen.messages[f"file {path.name}"] = path.read_bytes()
    return seen


def _run(site: Site, seen: Night, provider: RawProvider) -> None:
    worker = site.start_worker("-E", "-l", "DEBUG", environment={"OVERNIGHT_METRICS_PORT": "0"}, concurrency=300)
    client = site.client()
    asked = lines()
    with Events(site.redis_url()) as events, watched(seen, client), flower(site) as pages:
        batch = site.submit(asked)
        site.wait(batch, 120.0)
        for name, found in printed(site, batch).items():
            seen.saw(name, found)
        for page in ("/", "/overnight/limits", "/overnight/workflows", "/tasks", "/api/tasks", "/workers", "/metrics"):
            seen.saw(f"pages {page}", ask(pages + page, user=USER)[1])
        address = worker.said().partition("metrics at ")[2].split()[0]
        seen.saw("metrics of the worker", ask(address)[1])
        seen.saw("metrics", metrics(site))
    assert set(provider.calls) - {""} >= {line["body"]["messages"][0]["content"] for line in asked}
    seen.saw("events", json.dumps(events.heard, default=str))
    client.close()


def test_something_was_seen_of_everything(night: Night) -> None:
    assert {where.split()[0] for where in night.found} == {"log", "redis", "overnight", "events", "metrics", "pages"}
    assert b"overnight_call_seconds" in night.found["metrics of the worker"]
    assert any(PROMPT.encode() in base64_too(what) for what in night.messages.values())
    assert b"is blocked" in b"".join(what for where, what in night.found.items() if where.startswith("log worker"))


@pytest.mark.parametrize("secret", [KEY, KEY[:14]])
def test_no_key_is_anywhere(night: Night, secret: str) -> None:
    everything = {**night.found, **night.messages}
    assert [where for where, what in everything.items() if secret.encode() in base64_too(what)] == []


@pytest.mark.parametrize("mark", [PROMPT, PROMPT.lower(), PROMPT.replace("-", "_")])
def test_prompts_are_where_they_belong(night: Night, mark: str) -> None:
    told = {}
    for where, what in night.found.items():
        text = base64_too(what)
        if (at := text.find(mark.encode())) >= 0:
            told[where] = text[max(0, at - 150) : at + 50]
    assert told == {}


def test_metrics_name_a_closed_list_of_outcomes(night: Night) -> None:
    outcomes = set(re.findall(r'outcome="([^"]*)"', night.found["metrics of the worker"].decode()))
    assert {"other", "http_500"} <= outcomes
    assert len(outcomes) < 20
