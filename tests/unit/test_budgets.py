"""The windows of a budget: a second belongs to one day or month of its time zone, and the next begins at midnight."""

from datetime import datetime
from zoneinfo import ZoneInfo

import pytest

from workers.models.budgets import window

BERLIN = "Europe/Berlin"


def at(text: str, zone: str = BERLIN) -> float:
    return datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone)).timestamp()


@pytest.mark.parametrize(
    ("kind", "moment", "label", "until", "following"),
    [
        ("day", "2026-11-26 23:59:59.999", "2026-11-26", "2026-11-27", "2026-11-27"),
        ("day", "2026-11-27 00:00:00.000", "2026-11-27", "2026-11-28", "2026-11-28"),
        ("day", "2026-10-25 12:00:00.000", "2026-10-25", "2026-10-26", "2026-10-26"),  # this day has 25 hours
        ("month", "2026-12-31 23:59:59.999", "2026-12", "2027-01-01", "2027-01"),
        ("month", "2027-01-01 00:00:00.000", "2027-01", "2027-02-01", "2027-02"),
    ],
)
def test_a_moment_falls_into_one_window(kind: str, moment: str, label: str, until: str, following: str) -> None:
    found = window("all", 5, kind, BERLIN, None, at(moment))
    assert (found.window, found.until, found.next_window) == (label, round(at(until) * 1e6), following)


def test_other_limits_subjects_and_zones_have_windows_of_their_own() -> None:
    now = at("2026-11-27 00:30:00")
    assert window("all", 5, "day", "UTC", None, now).window == "2026-11-26"
    assert window("all", 5, "day", BERLIN, None, now).window == "2026-11-27"
    assert window("all", 6, "day", BERLIN, None, now).limit == 6
    assert window("workflow/w", 6, "day", BERLIN, None, now).subject == "workflow/w"


def test_each_batch_has_a_budget_and_so_has_a_days_other_jobs() -> None:
    now = at("2026-11-27 00:30:00")
    mine = window("workflow/w", 5, "batch", BERLIN, "batch_1", now)
    assert (mine.subject, mine.window, mine.until) == ("workflow/w/batch_1", "batch", 0)
    single = window("workflow/w", 5, "batch", BERLIN, None, now)
    today = window("workflow/w/single", 5, "day", BERLIN, None, now)
    assert single == today
    assert single.until > now * 1e6
