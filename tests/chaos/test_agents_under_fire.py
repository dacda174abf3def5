"""Agents through kills, pauses and closed quotas: what each call has cost, with the provider's journal as witness."""

import random
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from tests.simulator import Simulator, expected_text
from tests.support.agents import line
from tests.support.site import Site, job, wait_for

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(560)]

JOBS, CALLS, KILLS, PAUSE = 200, 10, 10, 30.0


def test_kills_and_a_pause_cost_only_calls_in_flight(tmp_path: Path) -> None:
    """200 agents of 10 calls; 3 workers, killed up to 10 times; a 429 that pauses everybody for 30 s."""
    more = 'agents = ["tests.support.agents"]\nvisibility_timeout = 10.0'
    price = "input_usd_per_mtok = 1.0\noutput_usd_per_mtok = 2.0"
    with Simulator(latency=[0.3, 1.5]) as simulator, Site(tmp_path, simulator, more=more, model=price) as site:
        workers = site.start_workers(3, concurrency=40)
        batch = site.submit([line("chain", number, calls=CALLS) for number in range(JOBS)])
        kills: list[float] = []
        choose = random.Random(7)
        wait_for(lambda: simulator.stats()["requests"] > 150, 60)
        paused = False

        def goes_on(asked: int) -> bool:
            stats = simulator.stats()
            return bool(stats["requests"] > asked + 60 or stats["jobs_answered"] >= JOBS * CALLS)

        # If workers are slow to start, all is done before the last kill.
        while len(kills) < KILLS and simulator.stats()["jobs_answered"] < JOBS * CALLS:
            victim = choose.randrange(3)
            workers[victim].kill()
            kills.append(time.monotonic())
            workers[victim] = site.start_worker(concurrency=40)
            if len(kills) >= 2 and not paused:
                simulator.configure(failures=[{"mode": "429", "retry_after": f"{PAUSE:g}", "times": 1}])
                paused = True
            asked = simulator.stats()["requests"]
            wait_for(lambda asked=asked: goes_on(asked), 90, what="more calls")
        assert len(kills) >= 3

        status = site.wait(batch, 400)
        assert status["request_counts"] == {"total": JOBS, "completed": JOBS, "failed": 0}
        found, _ = site.results(batch)
        assert len(found) == JOBS
        for one in found:
            bodies = [{"user": f"{one['custom_id']}/{call}", "max_tokens": 50} for call in range(CALLS)]
            assert one["response"]["body"]["texts"] == [expected_text(body) for body in bodies]

        entries = [entry for entry in simulator.journal() if entry["cost_nusd"]]
        by_call: dict[str, list[dict[str, Any]]] = {}
        for entry in entries:
            by_call.setdefault(entry["job"], []).append(entry)
        assert len(by_call) == JOBS * CALLS
        twice = {name: paid for name, paid in by_call.items() if len(paid) > 1}
        for name, paid in twice.items():
            for entry in paid[:-1]:
                ended = entry["at"] + entry["seconds"] + 1.0
                assert any(entry["at"] <= kill <= ended for kill in kills), f"{name} was paid twice without a kill"
        early = [entry for entry in simulator.journal() if entry["early"]]
        assert not early
        told = sum(entry["cost_nusd"] for entry in entries)
        print(  # noqa: T201 - the figures of this run
            f"{JOBS * CALLS} calls, {len(entries)} paid: {len(twice)} of those in flight at {len(kills)} kills twice; "
            f"billed ${told / 1e9:.6f}, told ${status['cost_usd']:.6f}"
        )


def test_waiting_agents_hold_no_slot_and_resume_on_time(tmp_path: Path) -> None:
    """500 agents before a quota that is closed for 60 s; another workflow at full speed; then all go on."""
    count, closed = 500, 60.0
    # With a limit that is known no pace is learned from the 429, which would spread what comes after the pause.
    tables, quota = "[providers.acme.models.other]", "rpm = 1_000_000"
    with (
        Simulator(latency=0.05) as simulator,
        Site(tmp_path, simulator, more='agents = ["tests.support.agents"]', model=quota, tables=tables) as site,
    ):
        workers = site.start_workers(2, concurrency=50)
        beside = [job(number, model="other", text=f"before {number}") for number in range(2_000)]
        alone = seconds_for(site, beside, "beside")

        simulator.configure(failures=[{"mode": "429", "retry_after": f"{closed:g}", "times": 1, "job": "/1"}])
        batch = site.submit([line("chain", number, calls=2) for number in range(count)], workflow="waiting")
        shut = wait_for(lambda: [entry for entry in simulator.journal() if entry["status"] == 429], 60)[0]
        opens = shut["at"] + closed
        wait_for(lambda: active(site, "waiting") == 0, 30, what="no agent in a slot")
        assert time.monotonic() < opens - 20
        beside = [job(number, model="other", text=f"meanwhile {number}") for number in range(2_000)]
        meanwhile = seconds_for(site, beside, "beside")
        assert time.monotonic() < opens
        assert active(site, "waiting") == 0
        assert meanwhile < 1.5 * alone + 1.0

        status = site.wait(batch, 120)
        assert status["request_counts"]["completed"] == count
        entries = [entry for entry in simulator.journal() if entry["model"] == "small" and entry["at"] > shut["at"] + 1]
        late = [entry["at"] - opens for entry in entries if entry["job"].endswith("/1")]
        paid = Counter(entry["job"] for entry in simulator.journal() if entry["cost_nusd"])
        assert max(paid.values()) == 1
        print(  # noqa: T201 - the figures of this run
            f"2,000 jobs beside: {alone:.1f} s alone, {meanwhile:.1f} s while {count} agents waited; "
            f"they resumed {min(late):.2f} to {max(late):.2f} s after the hint"
        )
        assert min(late) > -0.1
        assert max(late) < 2.0
        assert all(worker.process.poll() is None for worker in workers)


def seconds_for(site: Site, lines: list[dict[str, Any]], workflow: str) -> float:
    """How long jobs take from their submission to their end."""
    batch = site.submit(lines, workflow=workflow)
    began = time.monotonic()
    site.wait(batch, 120)
    return time.monotonic() - began


def active(site: Site, workflow: str) -> int:
    """How many jobs of a workflow are leased, that is, hold a slot."""
    client = site.client()
    keys = list(client.scan_iter(f"{site.keys.prefix}batch:*:leases"))
    batches = {key.decode().split(":")[2] for key in keys}
    mine = [name for name in batches if client.hget(site.keys.batch(name), "workflow") == workflow.encode()]
    return sum(client.zcard(site.keys.job_leases(name)) for name in mine)
