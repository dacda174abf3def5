"""Thousands of answers and input lines that no one would write: each ends as an answer, a named failure or a wait."""

import json
import logging
import random
import time
from collections import Counter
from pathlib import Path

import pytest

from tasks.batches.input import check_file
from tasks.batches.precheck import Precheck
from tests.simulator import Simulator
from tests.support import fuzz
from tests.support.delivery import Delivery, Desk
from tests.support.raw_provider import Call, RawProvider
from tests.support.site import KEY, Site, job
from tests.support.toml import PRICES, provider
from workers.config.settings import load

#: Each answer of one round meets a provider of its own: what it says of the account is not said of the next.
PROVIDERS = 300

#: Seconds until the deadline of a round's jobs: what a 429 asks them to wait is longer.
DEADLINE = 6.0

#: The most that a call can cost, from the largest usage that is believed: 1,050,000 tokens in and out.
DEAREST = (1_050_000 * 1.0 + 1_050_000 * 2.0) / 1e6

COUNTS = [pytest.param(300, id="some"), pytest.param(10_200, id="many", marks=pytest.mark.long)]


def config(base_url: str) -> str:
    providers = (
        provider(base_url, f"p{number}", more="timeout = 5", models={"m": PRICES}) for number in range(PROVIDERS)
    )
    return "".join(providers) + "[workflows.nightly]\nmax_attempts = 1\nbudget_usd = 1000.0\n"


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.timeout(600)
@pytest.mark.parametrize("count", COUNTS)
def test_fuzzed_answers(
    tmp_path: Path, valkey: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, count: int
) -> None:
    monkeypatch.setenv("ACME_KEY", KEY)
    caplog.set_level(logging.INFO)

    def answer(call: Call) -> bytes:
        return fuzz.answer(random.Random(call.text))

    ends: Counter[str] = Counter()
    with RawProvider(answer) as provider, Desk(tmp_path, valkey, config(provider.base_url)) as desk:
        for start in range(0, count, PROVIDERS):
            lines = [
                job(each, model=f"p{each % PROVIDERS}/m", text=f"answer {each}")
                for each in range(start, start + PROVIDERS)
            ]
            for number, delivery in enumerate(desk.all(*lines, deadline=time.time() + DEADLINE), start):
                ends[judged(delivery, f"answer {number}")] += 1
            desk.client.delete(*desk.client.scan_iter(f"*{desk.namespace}*", count=1_000))
        assert sum(provider.calls.values()) >= 0.9 * count
    assert sum(ends.values()) == count
    assert {"answered", "broken_body", "connection_lost", "http_500", "deadline_exceeded"} <= set(ends), ends
    assert not [record for record in caplog.records if record.exc_info], caplog.text[-3_000:]
    assert KEY not in caplog.text


def judged(delivery: Delivery, what: str) -> str:
    """How a delivery ended, in a word; its result line must be one, and its cost one that can be."""
    if delivery.line is None:
        assert delivery.snooze is not None, what
        assert delivery.snooze.reason, what
        assert 0 <= delivery.state.cost <= DEAREST * 1e9, what
        return "snoozed"
    line = json.loads(json.dumps(delivery.line))
    assert 0 <= line["overnight"]["cost_usd"] <= DEAREST, what
    if line["error"] is None:
        assert line["response"]["body"], what
        return "answered"
    assert line["error"]["code"], what
    assert line["error"]["message"], what
    return str(line["error"]["code"])


LIMITS = "[workflows.nightly]\nbudget_usd = 1000.0\nmax_attempts = 1\n"


def fuzzed_lines(count: int) -> list[bytes]:
    rng = random.Random(f"lines {count}")
    return [fuzz.line(rng, job(number, temperature=0.5, n=1, tools=[], stop=["x"])) for number in range(count)]


@pytest.mark.parametrize("count", COUNTS)
def test_fuzzed_lines_are_jobs_or_problems_with_their_number(tmp_path: Path, count: int) -> None:
    file = tmp_path / "overnight.toml"
    file.write_text(provider("http://127.0.0.1:9/v1", models={"small": PRICES}) + LIMITS)
    source = tmp_path / "in.jsonl"
    lines = fuzzed_lines(count)
    source.write_bytes(b"\n".join(lines) + b"\n")
    check = Precheck(load(file), "nightly", lambda _: {}).check
    found = check_file(str(source), check)
    assert found.count > 0
    assert found.lines + sum(not line.strip() for line in lines) == count
    assert all(words for _, words in found.problems)
    assert all(
        f"line {number}: " in told for (number, _), told in zip(sorted(found.problems), found.messages(), strict=True)
    )


@pytest.mark.long
@pytest.mark.timeout(600)
def test_fuzzed_lines_that_are_jobs_end(tmp_path: Path) -> None:
    """Those that submit takes run on a real worker, each to its end."""
    with Simulator() as simulator, Site(tmp_path, simulator, model=PRICES, tables=LIMITS) as site:
        settings = load(site.file)
        check = Precheck(settings, "nightly", lambda _: {}).check
        single, taken, ids = tmp_path / "one.jsonl", [], set()
        for raw in fuzzed_lines(10_000):
            single.write_bytes(raw + b"\n")
            found = check_file(str(single), check)
            if found.lines and not found.count and (name := json.loads(raw.strip())["custom_id"]) not in ids:
                ids.add(name)
                taken.append(raw.strip())
        source = tmp_path / "all.jsonl"
        source.write_bytes(b"\n".join(taken) + b"\n")
        worker = site.start_worker()
        batch = site.run("submit", str(source), "-w", "nightly").stdout.strip()
        counts = site.wait(batch, 400.0)["request_counts"]
        assert counts["total"] == len(taken) > 1_000
        assert counts["completed"] + counts["failed"] == len(taken)
        assert 0 <= site.status(batch)["cost_usd"] < DEAREST * len(taken)
        output, errors = site.results(batch)
        assert {line["custom_id"] for line in [*output, *errors]} == ids
        assert all(line["error"]["code"] and line["error"]["message"] for line in errors)
        assert "Traceback" not in worker.said()
