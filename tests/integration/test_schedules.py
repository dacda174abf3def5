"""Schedules, with real beats. Time moves by changing what the server remembers, so no test waits."""

import json
import os
import signal
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
import redis
from prometheus_client import CollectorRegistry, generate_latest

from limits.client.connection import Server
from limits.keys import Keys
from tasks.batches.store import Store
from tasks.monitoring.metrics import Exporter
from tasks.schedules import run as scheduled
from tasks.schedules.calendar import name_of
from tasks.schedules.runs import Run, Schedules
from tests.support.site import Site, Worker, jobs, wait_for
from tests.support.toml import provider
from tests.support.watching import Scrape
from workers.config.settings import Settings, load

pytestmark = pytest.mark.long

#: The current minute, at which every schedule here is due.
NOW = datetime.now(UTC).replace(second=0, microsecond=0)
CRON = f"{NOW.minute} {NOW.hour} * * *"


class ScheduleSite:
    """A site with schedules, and what the server remembers of them."""

    def __init__(self, site: Site, url: str, namespace: str) -> None:
        self.site = site
        self.store = Store(Keys(namespace), Server(redis.Redis.from_url(url)))
        self.schedules = Schedules(self.store)
        self.settings: Settings = load(site.file)

    def begin(self, name: str, since: datetime) -> None:
        """Pretend that a beat has watched the schedule since `since`."""
        self.schedules.move(name, self.settings.schedules[name], since.timestamp(), [])

    def last(self, name: str, moment: datetime = NOW) -> Run | None:
        return self.schedules.record(name, self.settings.schedules[name]).runs.get(name_of(moment))

    def over(self, name: str, moment: datetime = NOW, seconds: float = 45.0) -> Run:
        """The run, as soon as its state is final."""
        found: Run = wait_for(
            lambda: (run := self.last(name, moment)) and run.final and run, seconds, what=f"run of {name}"
        )
        return found

    def shown(self, status: int = 0) -> dict[str, dict[str, Any]]:
        found = json.loads(self.site.run("schedules", "--json", status=status).stdout)
        return {each["schedule"]: each for each in found["schedules"]}

    def scraped(self) -> Scrape:
        """What Prometheus sees."""
        registry = CollectorRegistry()
        registry.register(Exporter(self.store, self.settings))
        return Scrape(generate_latest(registry).decode())

    def leads(self, beat: Worker) -> bool:
        return "this beat leads" in beat.said()


@pytest.fixture
def schedule_site(tmp_path: Path, valkey: str) -> Iterator[Callable[..., ScheduleSite]]:
    made: list[Site] = []

    def make(**inputs: str) -> ScheduleSite:
        namespace = f"schedules-{uuid4().hex[:8]}"
        tables = "".join(
            f'[schedules.{name}]\ncron = "{CRON}"\nworkflow = "nightly"\ninput = "{source}"\n'
            for name, source in inputs.items()
        )
        toml = (
            f'redis_url = "{valkey}"\nnamespace = "{namespace}"\n'
            f"{provider('http://127.0.0.1:9', key=None)}[workflows.nightly]\n{tables}"
        )
        site = Site(tmp_path, toml=toml)
        made.append(site)
        site.input(jobs(3)).rename(tmp_path / "all.jsonl")
        return ScheduleSite(site, valkey, namespace)

    yield make
    for site in made:
        site.__exit__(None, None, None)


def test_a_leader_killed_at_the_minute_leaves_one_batch(schedule_site: Callable[..., ScheduleSite]) -> None:
    """One batch: not two, not none."""
    site = schedule_site(summaries="all.jsonl")
    leader = site.site.start_beat()
    wait_for(lambda: site.leads(leader), what="lead")
    follower = site.site.start_beat()
    site.begin("summaries", NOW - timedelta(minutes=1))
    wait_for(lambda: children(leader.pid), 15.0, 0.01, what="the run's process")
    os.killpg(leader.pid, signal.SIGKILL)
    assert not site.leads(follower)
    # A killed leader's lock expires 25 s after its last round; here it does so now.
    site.store.client.pexpire(site.store.keys.redbeat + "lock", 1)
    run = site.over("summaries")
    wait_for(lambda: site.leads(follower), 10.0, what="lead of the follower")
    assert (run.state, run.missed) == ("ran", False)
    assert [batch.id for batch in site.store.batches()] == [run.batch]
    assert site.shown()["summaries"]["last"]["request_counts"]["total"] == 3


def test_an_unchanged_input_is_one_batch_a_run(schedule_site: Callable[..., ScheduleSite]) -> None:
    site = schedule_site(summaries="all.jsonl")
    yesterday = NOW - timedelta(days=1)
    make_batch(site, "summaries", yesterday)
    make_batch(site, "summaries", NOW)
    make_batch(site, "summaries", NOW)
    batches = {batch.id for batch in site.store.batches()}
    assert len(batches) == 2
    assert batches == {site.over("summaries", yesterday).batch, site.over("summaries").batch}


def test_missed_runs_are_made_up_and_reported(schedule_site: Callable[..., ScheduleSite]) -> None:
    """No beat ran for three days. One schedule has an input for each run, of which the last never came."""
    site = schedule_site(dated="{date}.jsonl", same="all.jsonl")
    days = [NOW - timedelta(days=back) for back in (2, 1)]
    for day in days:
        site.site.input(jobs(2, text=str(day))).rename(site.site.folder / f"{day:%Y-%m-%d}.jsonl")
    for name in ("dated", "same"):
        site.begin(name, NOW - timedelta(days=2, minutes=1))
    beat = site.site.start_beat()
    made_up = [site.over("dated", day) for day in days]
    assert all(run.state == "ran" and run.missed for run in made_up)
    assert site.over("same").state == "ran"
    assert {site.over("same", day).state for day in days} == {"skipped"}
    assert len(site.store.batches()) == 3
    assert wait_for(lambda: "h late: no beat was running when it was due" in beat.said())
    waits = wait_for(lambda: site.last("dated"), what="today's run")
    assert waits.state == "waiting"
    assert waits.words.endswith(f"{NOW:%Y-%m-%d}.jsonl is not there yet")
    assert beat.stop() == 0


def test_an_input_that_comes_late_or_never_or_is_wrong(schedule_site: Callable[..., ScheduleSite]) -> None:
    site = schedule_site(late="late.jsonl", never="never.jsonl", wrong="wrong.jsonl")
    (site.site.folder / "wrong.jsonl").write_text("{}\n")
    yesterday = NOW - timedelta(days=1)
    for name in ("late", "never", "wrong"):
        site.begin(name, yesterday - timedelta(minutes=1))
        make_batch(site, name, yesterday)
    for name in ("late", "never"):
        found = site.last(name, yesterday)
        assert found is not None
        assert found.again > time.time() + 30
    wrong = site.over("wrong", yesterday)
    assert wrong.state == "failed"
    assert "line 1: custom_id is missing" in wrong.words
    assert site.shown(status=1)["wrong"]["last"]["state"] == "failed"
    scraped = site.scraped()
    for name, failed in (("late", 0), ("never", 0), ("wrong", 1)):
        assert scraped.sum("overnight_schedule_night_state", schedule=name, state="failed") == failed
    assert scraped.sum("overnight_schedule_night_state", schedule="late", state="waiting") == 1
    assert scraped.sum("overnight_beat_leads") == 0

    (site.site.folder / "late.jsonl").write_bytes((site.site.folder / "all.jsonl").read_bytes())
    for name in ("late", "never"):
        hours_pass(site, name, yesterday, 7)
        make_batch(site, name, yesterday)
    assert site.over("late", yesterday).state == "ran"
    assert site.over("never", yesterday).words.endswith("never.jsonl is not there yet: given up after 6 h")

    (site.site.folder / "wrong.jsonl").write_bytes((site.site.folder / "all.jsonl").read_bytes())
    site.site.run("schedules", "--again", "wrong")
    site.site.start_beat()
    assert site.over("wrong", yesterday).state == "ran"
    scraped = site.scraped()
    assert scraped.sum("overnight_schedule_ran_timestamp_seconds", schedule="wrong") >= yesterday.timestamp()
    assert scraped.sum("overnight_schedule_next_timestamp_seconds", schedule="wrong") > time.time()
    assert scraped.sum("overnight_beat_leads") == 1
    wait_for(lambda: site.last("wrong") is not None, what="today's run")
    site.over("wrong")
    refused = site.site.run("schedules", "--again", "wrong", status=2)
    assert "did not fail: ran" in refused.stderr


def test_a_url_is_an_input(schedule_site: Callable[..., ScheduleSite], tmp_path: Path) -> None:
    site = schedule_site(remote=f"file://{tmp_path}/{{year}}/{{month}}-{{day}}.jsonl")
    folder = tmp_path / f"{NOW:%Y}"
    folder.mkdir()
    (tmp_path / "all.jsonl").rename(folder / f"{NOW:%m-%d}.jsonl")
    make_batch(site, "remote", NOW)
    assert site.over("remote").state == "ran"


def test_beat_survives_its_server_and_losing_the_lead(schedule_site: Callable[..., ScheduleSite]) -> None:
    site = schedule_site(summaries="all.jsonl")
    beat = site.site.start_beat()
    wait_for(lambda: site.leads(beat), what="lead")
    lock = site.store.keys.redbeat + "lock"
    site.store.client.client_kill_filter(_type="normal", skipme=True)
    site.store.client.set(lock, "another", px=3000)
    wait_for(lambda: "another beat leads now" in beat.said(), what="the loss of the lead")
    wait_for(lambda: beat.said().count("this beat leads") == 2, what="the lead again")
    site.begin("summaries", NOW - timedelta(minutes=1))
    assert site.over("summaries").state == "ran"


def children(pid: int) -> list[int]:
    """The processes that a process has started."""
    found = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [int(child) for child in found]


def hours_pass(site: ScheduleSite, name: str, moment: datetime, hours: float) -> None:
    """Pretend that the run began to wait `hours` earlier."""
    found = site.last(name, moment)
    assert found is not None
    moved = {"since": found.since - hours * 3600, "again": 1.0, "words": found.words}
    key = site.store.keys.schedule(name)
    site.store.client.hset(key, found.scheduled_for, json.dumps({**moved, "state": "waiting"}))


def make_batch(site: ScheduleSite, name: str, moment: datetime) -> None:
    """What beat starts as a process of its own when a run is due."""
    scheduled.make_batch(site.settings, name, name_of(moment))


def test_runs_survive_a_change_of_times(schedule_site: Callable[..., ScheduleSite]) -> None:
    """One waits for its input when the times change; another has failed, and runs again under the new times."""
    site = schedule_site(late="late.jsonl", wrong="wrong.jsonl")
    (site.site.folder / "wrong.jsonl").write_text("{}\n")
    before = NOW - timedelta(hours=3)
    for name in ("late", "wrong"):
        site.schedules.move(name, site.settings.schedules[name], before.timestamp(), [])
        site.store.client.hset(site.store.keys.schedule(name), "times", "other times")
        make_batch(site, name, before)
    for name in ("late", "wrong"):
        (site.site.folder / f"{name}.jsonl").write_bytes((site.site.folder / "all.jsonl").read_bytes())
    hours_pass(site, "late", before, 0)
    site.site.run("schedules", "--again", "wrong")
    site.site.start_beat()
    for name in ("late", "wrong"):
        assert site.over(name, before).state == "ran"


def test_an_unreachable_input_is_reported_and_given_up(
    schedule_site: Callable[..., ScheduleSite], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
        monkeypatch.setenv(name, "/nowhere")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    site = schedule_site(
        remote="s3://bucket/all.jsonl", signed="http://user:hunter22@127.0.0.1:9/{date}.jsonl?Signature=SECRET-123"
    )
    yesterday = NOW - timedelta(days=1)
    make_batch(site, "remote", yesterday)
    found = site.last("remote", yesterday)
    assert found is not None
    assert (found.state, "redentials" in found.words) == ("waiting", True)
    hours_pass(site, "remote", yesterday, 7)
    make_batch(site, "remote", yesterday)
    assert site.over("remote", yesterday).words.endswith("given up after 6 h")
    assert site.shown(status=1)["remote"]["last"]["state"] == "failed"
    make_batch(site, "signed", yesterday)
    kept = site.store.client.hgetall(site.store.keys.schedule("signed"))
    told = f"{kept} {site.shown(status=1)} {site.site.run('schedules', status=1).stderr} {caplog.text}"
    assert f"http://***@127.0.0.1:9/{yesterday:%Y-%m-%d}.jsonl: cannot be read: " in told
    assert not any(secret in told for secret in ("hunter22", "SECRET-123"))
