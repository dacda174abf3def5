"""A batch with `dedupe` while workers and Redis are killed: each distinct request is paid once, and all have a line."""

import os
import random
import signal
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from tests.simulator import Simulator
from tests.support.site import Site, job, wait_for

pytestmark = pytest.mark.chaos

#: Lines of the batch; 30 % repeat an earlier one. With COPIES_LINES=100000 it takes some minutes.
LINES = int(os.environ.get("COPIES_LINES") or 20_000)
DISTINCT = LINES * 7 // 10
CONCURRENCY = 100


@pytest.mark.timeout(1_200)
def test_each_distinct_request_is_paid_once_under_kills(tmp_path: Path) -> None:
    seed = int(os.environ.get("CHAOS_SEED") or time.time())
    print(f"CHAOS_SEED={seed}")  # noqa: T201 - to do it again
    chance = random.Random(seed)
    asked = [*range(DISTINCT), *(chance.randrange(DISTINCT) for _ in range(LINES - DISTINCT))]
    chance.shuffle(asked)
    events = ["worker"] * 6 + ["server"] * 2
    chance.shuffle(events)
    with (
        Simulator(latency=[0.1, 0.4]) as simulator,
        Site(tmp_path, simulator, more="visibility_timeout = 5", tables="[workflows.nightly]\ndedupe = true") as site,
    ):
        site.start_workers(2, concurrency=CONCURRENCY)
        batch = site.submit(job(number, text=f"question {asking}") for number, asking in enumerate(asked, 1))
        for number, event in enumerate(events, 1):
            share = number * DISTINCT * 0.9 / len(events)
            wait_for(lambda share=share: simulator.stats()["requests"] > share, 400.0, every=0.3, what="progress")
            _kill(site, event, chance)
        counts = site.wait(batch, 600.0)["request_counts"]
        answers, errors = site.results(batch)
        journal = simulator.journal()
    assert (counts, errors) == ({"total": LINES, "completed": LINES, "failed": 0}, [])
    again = len(journal) - DISTINCT
    print(f"{LINES:,} lines, {DISTINCT:,} distinct: {len(journal):,} calls, {again} of them again")  # noqa: T201 - the figures
    assert len({entry["job"] for entry in journal}) == DISTINCT
    assert 0 <= again <= len(events) * 2 * CONCURRENCY
    _assert_one_answer_a_question(asked, answers)


def _kill(site: Site, event: str, chance: random.Random) -> None:
    if event == "server":
        os.kill(site.redis_pid(), signal.SIGKILL)
    else:
        chance.choice([worker for worker in site.workers if worker.process.poll() is None]).kill()
        site.start_worker(concurrency=CONCURRENCY)


def _assert_one_answer_a_question(asked: list[int], answers: list[dict[str, Any]]) -> None:
    """Each line has one answer: its own if it is the first with its question, else that of the first."""
    assert Counter(line["custom_id"] for line in answers) == Counter(f"job-{n}" for n in range(1, LINES + 1))
    by_id = {line["custom_id"]: line for line in answers}
    first: dict[int, str] = {}
    for number, asking in enumerate(asked, 1):
        name = f"job-{number}"
        original = first.setdefault(asking, name)
        assert by_id[name]["overnight"].get("copy_of") == (None if original == name else original)
        assert by_id[name]["response"] == by_id[original]["response"]
        assert by_id[name]["overnight"]["cost_usd"] == 0 or original == name
