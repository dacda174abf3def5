"""When runs are due, across changes of clocks and months."""

from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest

from tasks.schedules.calendar import Calendar, from_name, name_of


def moments(cron: str, zone: str, begin: str, end: str) -> list[str]:
    """The moments in (begin, end], in local time."""
    calendar = Calendar(cron, zone)
    found = calendar.between(datetime.fromisoformat(begin + "+00:00"), datetime.fromisoformat(end + "+00:00"))
    return [calendar.local(moment).strftime("%d %H:%M") for moment in found]


def test_a_daily_run_in_its_own_time_zone() -> None:
    assert moments("0 2 * * *", "Asia/Tokyo", "2026-11-24T00:00", "2026-11-26T00:00") == ["25 02:00", "26 02:00"]


def test_the_start_is_excluded_and_the_end_included() -> None:
    assert moments("0 2 * * *", "UTC", "2026-11-24T02:00", "2026-11-25T02:00") == ["25 02:00"]
    assert moments("0 2 * * *", "UTC", "2026-11-24T02:01", "2026-11-25T01:59") == []


def test_a_run_in_a_skipped_hour_comes_later() -> None:
    """Berlin, 29 March 2026: 02:00 becomes 03:00."""
    found = moments("30 2 * * *", "Europe/Berlin", "2026-03-28T00:00", "2026-03-30T12:00")
    assert found == ["28 02:30", "29 03:30", "30 02:30"]


def test_a_run_in_a_repeated_hour_comes_once() -> None:
    """Berlin, 25 October 2026: 03:00 becomes 02:00."""
    assert moments("30 2 * * *", "Europe/Berlin", "2026-10-24T12:00", "2026-10-25T12:00") == ["25 02:30"]


@pytest.mark.parametrize(("day", "hours"), [("2026-03-29", 23), ("2026-10-25", 25), ("2026-11-25", 24)])
def test_an_hourly_schedule_runs_every_real_hour(day: str, hours: int) -> None:
    zone = Calendar("0 * * * *", "Europe/Berlin")
    midnight = datetime.fromisoformat(f"{day}T00:00").replace(tzinfo=zone._zone)
    following = (midnight + timedelta(days=1)).astimezone(UTC)
    found = list(zone.between(midnight.astimezone(UTC), following))
    assert len(found) == hours
    assert {later - sooner for sooner, later in pairwise(found)} == {timedelta(hours=1)}


def test_day_of_month_or_weekday_if_both_are_named() -> None:
    found = moments("0 2 13 * 5", "UTC", "2026-11-01T00:00", "2026-11-21T00:00")
    assert found == ["06 02:00", "13 02:00", "20 02:00"]
    assert moments("0 2 14 * 5", "UTC", "2026-11-12T00:00", "2026-11-15T00:00") == ["13 02:00", "14 02:00"]


def test_next_finds_a_leap_day() -> None:
    assert name_of(Calendar("0 2 29 2 *").next(datetime(2026, 11, 25, tzinfo=UTC))) == "2028-02-29T02:00Z"


def test_a_name_leads_back_to_its_moment() -> None:
    moment = datetime(2026, 11, 25, 1, 30, tzinfo=UTC)
    assert name_of(moment) == "2026-11-25T01:30Z"
    assert from_name("2026-11-25T01:30Z") == moment
    with pytest.raises(ValueError, match="does not match"):
        from_name("2026-11-25")
