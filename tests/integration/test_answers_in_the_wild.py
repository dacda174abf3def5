"""Answers as providers give them in the wild, through a real worker: what is an answer is delivered after one call,
and what isn't one is named and never bought repeatedly.
"""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.support.raw_provider import Call, RawProvider, answered, completion
from tests.support.site import KEY, Line, Site, job
from tests.support.toml import PRICES, provider

DIGITS = "92055901755477000271990251"
LOCKED = "Your portal is locked. Please try again in 24 hours."
EVENT = {"id": "c", "choices": [{"index": 0, "delta": {"content": LOCKED}, "finish_reason": "stop"}]}
TOOL = {"id": "t", "type": "function", "function": {"name": "f", "arguments": {"id": 1, "at": 2}}}
CACHED = {"total_tokens": 10_050, "prompt_tokens_details": {"cached_tokens": 9_900}}
COMPACTION = [
    {"type": "compaction", "input_tokens": 180_000, "output_tokens": 3_500},
    {"type": "message", "input_tokens": 23_000, "output_tokens": 1_000},
]
NO_CHOICES = {"choices": None, "usage": {"prompt_tokens": 1_396, "completion_tokens": 0, "total_tokens": 1_396}}


def with_digits() -> bytes:
    body = completion(None, "tool_calls")
    body["choices"][0]["message"]["tool_calls"] = [TOOL]
    return (
        json.dumps(body)
        .replace('"id": 1', f'"id": {DIGITS}')
        .replace('"at": 2', '"at": 3.14159265358979323846')
        .encode()
    )


def message(call: Call) -> bytes:
    """The Messages API, which requires max_tokens."""
    if "max_tokens" not in call.body:
        return answered({"type": "error", "error": {"type": "invalid_request_error", "message": "max_tokens"}}, 400)
    usage = {"input_tokens": 23_000, "output_tokens": 1_000, "iterations": COMPACTION}
    return answered({"type": "message", "content": [{"type": "text", "text": "Hi"}], "usage": usage})


def answer(call: Call) -> bytes:
    """What each prompt is answered with; its later calls get a good answer if the first is worth a retry."""
    good = answered(completion("Hi"))
    later = call.count > 1
    match call.text:
        case "a stream nobody asked for":
            stream = f"data: {json.dumps(EVENT)}\n\ndata: [DONE]\n\n".encode()
            return answered(stream, content_type="text/event-stream")
        case "JSON and the end of a stream":
            return answered(json.dumps(completion(LOCKED)).encode() + b"\ndata: [DONE]\n")
        case "half a surrogate pair":
            return answered(json.dumps(completion("fine ?")).replace("?", "\\ud83d").encode())
        case "no choices":
            return answered(NO_CHOICES)
        case "an abort":
            return good if later else answered(completion("Hel", "abort"))
        case "a vendor's rate limit":
            limit = {"id": "x", "choices": None, "base_resp": {"status_code": 1002, "status_msg": "rate limit"}}
            return good if later else answered(limit)
        case "long digits":
            return answered(with_digits())
        case "cached tokens in the total":
            return answered(completion("Hi", prompt_tokens=100, completion_tokens=50, **CACHED))
        case "a long header":
            return answered(completion("Hi"), x_policy="p" * 9_000)
        case "many headers":
            return answered(completion("Hi"), **{f"x_{number}": "v" for number in range(130)})
        case "no ceiling":
            return answered(completion("", "length", completion_tokens=4_096))
        case "an own ceiling":
            return answered(completion("Hi", "length"))
        case "never an answer":
            return answered({"hello": "world"})
        case "both lengths":
            return answered(completion("Hi"), transfer_encoding="chunked")
        case "too large an answer":
            return b"HTTP/1.1 200 OK\r\ncontent-length: 130000000\r\n\r\n[" + b"1," * 1_000
        case "too large a request":
            return answered(b"", 413)
        case "a repeated key":
            return answered(completion(f"You sent {KEY}"), x_request_id=f"req-{KEY}")
        case "a compaction, and no ceiling":
            return message(call)
    return message(call) if call.body.get("model") == "c" else good


#: Prompt, calls, and the error's code, '' for an answer.
ROWS = [
    ("a stream nobody asked for", 1, ""),
    ("JSON and the end of a stream", 1, ""),
    ("half a surrogate pair", 1, ""),
    ("no choices", 1, "content_filter"),
    ("an abort", 2, ""),
    ("a vendor's rate limit", 2, ""),
    ("long digits", 1, ""),
    ("cached tokens in the total", 1, ""),
    ("a long header", 1, ""),
    ("many headers", 1, ""),
    ("no ceiling", 1, ""),
    ("an own ceiling", 1, ""),
    ("never an answer", 2, "broken_body"),
    ("both lengths", 2, "broken_answer"),
    ("too large an answer", 1, "answer_too_large"),
    ("too large a request", 1, "http_413"),
    ("a repeated key", 1, ""),
    ("a compaction, and no ceiling", 1, ""),
]

#: Their models: those that fail must not open the circuit of the others.
FAIL = {"an abort", "never an answer", "both lengths", "a vendor's rate limit"}


def config(url: str) -> str:
    acme = provider(url, models={"m": PRICES, "n": PRICES})
    claude = provider(url, "claude", api="anthropic", models={"c": PRICES})
    return f"visibility_timeout = 5.0\n{acme}{claude}[workflows.nightly]\nbudget_usd = 5.0\n[workflows.adhoc]\n"


class Night:
    """A night's results, by prompt."""

    def __init__(self) -> None:
        self.calls: dict[str, int] = {}
        self.lines: dict[str, Line] = {}
        self.raw: dict[str, str] = {}
        self.status: dict[str, Any] = {}
        self.printed = ""
        self.log = ""
        self.seen: dict[str, Call] = {}


def line(number: int, text: str) -> Line:
    made = job(number, model="n" if text in FAIL else "m", text=text)
    if text == "no ceiling":
        del made["body"]["max_tokens"]
    if text == "a compaction, and no ceiling":
        made["url"] = "/v1/messages"
        made["body"] = {"model": "c", "messages": made["body"]["messages"]}
    return made


@pytest.fixture(scope="module")
def night(tmp_path_factory: pytest.TempPathFactory) -> Night:
    found = Night()
    folder = tmp_path_factory.mktemp("night")
    with RawProvider(answer) as raw, Site(folder, toml=config(raw.base_url)) as site:
        worker = site.start_worker()
        texts = [text for text, _, _ in ROWS]
        batch = site.submit([line(number, text) for number, text in enumerate(texts)])
        found.status = site.wait(batch)
        printed = site.run("status", batch)
        found.printed = printed.stdout + printed.stderr
        site.results(batch)
        for path in (folder / f"{batch}.out.jsonl", folder / f"{batch}.err.jsonl"):
            for written in path.read_text().splitlines():
                made = json.loads(written)
                text = texts[int(made["custom_id"].removeprefix("job-"))]
                found.lines[text], found.raw[text] = made, written
        found.calls, found.seen = dict(raw.calls), raw.seen
        found.log = worker.said()
    return found


@pytest.mark.parametrize(("text", "calls", "code"), ROWS, ids=[row[0] for row in ROWS])
def test_each_is_called_as_often_as_it_is_worth(night: Night, text: str, calls: int, code: str) -> None:
    made = night.lines[text]
    assert (made["error"]["code"] if made["error"] else "") == code
    assert night.calls[text] == calls
    assert "Traceback" not in night.log


def test_what_was_read_is_what_was_written(night: Night) -> None:
    def content(text: str) -> Any:
        return night.lines[text]["response"]["body"]["choices"][0]["message"]["content"]

    assert content("a stream nobody asked for") == content("JSON and the end of a stream") == LOCKED
    assert content("half a surrogate pair") == "fine \ufffd"
    assert content("a repeated key") == "You sent [key]"
    assert f'"id":{DIGITS},"at":3.14159265358979323846' in night.raw["long digits"]
    assert KEY not in "".join(night.raw.values())


def test_a_vendors_rate_limit_spends_no_attempt_and_an_abort_does(night: Night) -> None:
    assert night.lines["a vendor's rate limit"]["overnight"]["attempts"] == 1
    assert night.lines["an abort"]["overnight"]["attempts"] == 2


def test_errors_hold_the_providers_words(night: Night) -> None:
    def words(text: str) -> str:
        return str(night.lines[text]["error"]["message"])

    assert "withheld the answer" in words("no choices")
    assert "both a Content-Length and a Transfer-Encoding" in words("both lengths")
    assert "not asked for again" in words("too large an answer")


def test_the_reported_usage_is_what_is_paid(night: Night) -> None:
    def cost(text: str) -> float:
        return float(night.lines[text]["overnight"]["cost_usd"])

    assert cost("cached tokens in the total") == pytest.approx((10_000 * 1.0 + 50 * 2.0) / 1e6)
    assert cost("a compaction, and no ceiling") == pytest.approx((203_000 * 1.0 + 4_500 * 2.0) / 1e6)
    assert cost("no choices") == pytest.approx(1_396 / 1e6)
    assert cost("too large a request") == 0


def test_answers_cut_off_by_a_ceiling_are_reported(night: Night) -> None:
    assert night.status["cut_off"] == {"total": 2, "by_default_ceiling": 1}
    assert "2 answers reached the limit of output tokens, 1 of them a default" in " ".join(night.printed.split())
    assert night.lines["no ceiling"]["overnight"]["cut_off_by"] == "default"
    assert night.lines["an own ceiling"]["overnight"]["cut_off_by"] == "own"
    assert "cut_off_by" not in night.lines["long digits"]["overnight"]


@pytest.mark.long
def test_a_message_without_a_ceiling_gets_one(tmp_path: Path) -> None:
    """No budget applies."""
    with RawProvider(answer) as raw, Site(tmp_path, toml=config(raw.base_url)) as site:
        output = tmp_path / "out.jsonl"
        source = site.input([line(1, "a compaction, and no ceiling"), line(2, "no ceiling")])
        done = site.run("run", str(source), "-o", str(output), "-w", "adhoc", "--workers", "1")
        assert len(output.read_text().splitlines()) == 2
        assert raw.seen["a compaction, and no ceiling"].body["max_tokens"] == 4_096
        assert "1 answer reached the limit of output tokens" in done.stdout + done.stderr


@pytest.mark.long
def test_digits_of_a_job_without_a_batch_arrive_both_ways(tmp_path: Path) -> None:
    with RawProvider(answer) as raw, Site(tmp_path, toml=config(raw.base_url)) as site:
        site.start_worker()
        asked = line(1, "long digits")
        asked["body"]["seed"] = 123456789012345678901
        program = f"from tasks import enqueue\nprint(enqueue({asked!r}, workflow='adhoc').get(timeout=60))\n"
        assert f"'id': {DIGITS}," in site.python(program).stdout
        assert b'"seed":123456789012345678901' in raw.seen["long digits"].raw


@pytest.mark.long
def test_a_document_of_20_mb_arrives_whole(tmp_path: Path) -> None:
    document = {
        "type": "document",
        "source": {"type": "base64", "media_type": "application/pdf", "data": "A" * 20_000_000},
    }
    with RawProvider(answer) as raw, Site(tmp_path, toml=config(raw.base_url)) as site:
        site.start_worker()
        asked = line(1, "a compaction, and no ceiling")
        asked["body"] |= {"messages": [{"role": "user", "content": [document]}], "max_tokens": 50}
        batch = site.submit([asked], workflow="adhoc")
        assert site.wait(batch)["request_counts"]["completed"] == 1
        assert raw.seen[""].body["messages"][0]["content"] == [document]
        asked["body"]["messages"][0]["content"][0]["source"]["data"] *= 2
        refused = site.run("submit", str(site.input([asked])), "-w", "adhoc", status=2)
        assert "has 40.0 MB, and claude/c takes requests of 32 MB at most" in refused.stderr
