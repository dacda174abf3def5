"""`overnight beat` starts a batch at its time. A beat that comes late starts the run that is due."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any

from limits.client.connection import Server
from tasks.batches.store import Store
from tasks.schedules.runs import Schedules
from tests.support.site import Site, jobs, wait_for
from workers.config.settings import load


def shown(site: Site) -> dict[str, Any]:
    """What `overnight schedules` shows of `tickets`."""
    found: dict[str, Any] = json.loads(site.run("schedules", "--json", status=None).stdout)["schedules"][0]
    return found


def test_1_a_schedule_shows_its_next_run(site: Site) -> None:
    assert shown(site)["schedule"] == "tickets"
    assert shown(site)["next"]


def test_2_a_beat_starts_the_run_that_is_due(site: Site, server: Server) -> None:
    site.input(jobs(3)).rename(site.folder / "tickets.jsonl")
    watched_since = datetime.now(UTC) - timedelta(minutes=1)  # as if a beat had run a minute ago
    schedule = load(site.file).schedules["tickets"]
    Schedules(Store(site.keys, server)).move("tickets", schedule, watched_since.timestamp(), [])
    beat = site.start_beat()
    try:
        batch = wait_for(lambda: (shown(site)["last"] or {}).get("batch"), what="a run with a batch")
    finally:
        beat.stop()  # else it starts another run at the next minute, in the middle of the next chapter
    assert site.wait(batch)["request_counts"]["completed"] == 3
