"""What is due: decided from records and a time that the test gives."""

from datetime import UTC, datetime

import pytest

from tasks.schedules.runs import LATE, MADE_UP, Due, Night, Record, due
from workers.config.settings import ScheduleSettings

DATED = ScheduleSettings(cron="0 2 * * *", workflow="nightly", input="/in/{date}.jsonl")
SAME = ScheduleSettings(cron="0 2 * * *", workflow="nightly", input="/in/all.jsonl")


def at(text: str) -> float:
    return datetime.fromisoformat(text + "+00:00").timestamp()


def decided(settings: ScheduleSettings, since: str, now: str, *nights: Night) -> Due:
    return due(settings, Record(at(since), {night.slot: night for night in nights}), at(now))


def slots(nights: list[Night]) -> list[str]:
    return [night.slot[8:10] for night in nights]


def test_a_new_schedule_begins_now() -> None:
    found = due(DATED, Record(None, {}), at("2026-11-25T12:00"))
    assert found == Due([], [], at("2026-11-25T12:00"))


def test_a_night_is_due_when_its_minute_comes_and_stays_due_until_it_is_over() -> None:
    assert slots(decided(DATED, "2026-11-24T12:00", "2026-11-25T01:59").run) == []
    found = decided(DATED, "2026-11-24T12:00", "2026-11-25T02:00")
    assert slots(found.run) == ["25"]
    assert not found.run[0].missed
    assert found.since == at("2026-11-24T12:00"), "a beat that dies now leaves the night to the next one"
    over = Night("2026-11-25T02:00Z", state="ran", batch="batch_1")
    found = decided(DATED, "2026-11-24T12:00", "2026-11-25T02:01", over)
    assert (found.run, found.since) == ([], at("2026-11-25T02:00"))


def test_missed_nights_run_late_each_with_its_own_input() -> None:
    found = decided(DATED, "2026-11-22T12:00", "2026-11-25T01:00")
    assert (slots(found.run), found.skipped) == (["23", "24"], [])
    assert all(night.missed for night in found.run)


def test_of_nights_with_the_same_input_one_is_made_up() -> None:
    found = decided(SAME, "2026-11-22T12:00", "2026-11-25T01:00")
    assert (slots(found.run), slots(found.skipped)) == (["24"], ["23"])
    found = decided(SAME, "2026-11-22T12:00", "2026-11-25T02:01")
    assert (slots(found.run), slots(found.skipped)) == (["25"], ["23", "24"])


def test_a_month_that_was_missed_is_not_made_up_in_one_night() -> None:
    found = decided(DATED, "2026-10-25T12:00", "2026-11-25T01:00")
    assert slots(found.run) == ["18", "19", "20", "21", "22", "23", "24"]
    assert len(found.run) == MADE_UP
    assert len(found.skipped) == 30 - MADE_UP
    assert found.since == at("2026-11-17T02:00")


def test_a_night_that_waits_is_left_alone_until_its_time() -> None:
    waits = Night("2026-11-25T02:00Z", since=at("2026-11-25T02:00"), again=at("2026-11-25T02:05"))
    assert decided(DATED, "2026-11-24T12:00", "2026-11-25T02:04", waits).run == []
    assert decided(DATED, "2026-11-24T12:00", "2026-11-25T02:05", waits).run == [waits]


def test_a_later_night_does_not_wait_for_one_that_waits() -> None:
    waits = Night("2026-11-24T02:00Z", since=at("2026-11-24T02:00"), again=at("2026-11-25T02:05"))
    found = decided(DATED, "2026-11-23T12:00", "2026-11-25T02:00", waits)
    assert (slots(found.run), found.since) == (["25"], waits.due)


@pytest.mark.parametrize(("seconds", "missed"), [(LATE, False), (LATE + 1, True)])
def test_late_is_what_nobody_looked_at_for_a_while(seconds: float, missed: bool) -> None:
    slot = at("2026-11-25T02:00")
    assert Night("2026-11-25T02:00Z", since=slot + seconds).missed is missed


@pytest.mark.parametrize(
    ("name", "source"),
    [
        ("{date}.jsonl", "/in/2026-03-01.jsonl"),
        ("{yesterday}.jsonl", "/in/2026-02-28.jsonl"),
        ("{year}/{month}/{day}/{hour}{minute}.jsonl", "/in/2026/03/01/0205.jsonl"),
    ],
)
def test_the_input_carries_the_nights_date(name: str, source: str) -> None:
    settings = ScheduleSettings(cron="5 2 * * *", workflow="nightly", input=f"/in/{name}")
    assert settings.dated
    assert settings.source(datetime(2026, 3, 1, 2, 5, tzinfo=UTC)) == source


@pytest.mark.parametrize("since", [None, "2026-11-25T12:00"])
def test_a_night_that_waits_is_due_whatever_the_schedule_s_times_are_now(since: str | None) -> None:
    waits = Night("2026-11-24T01:00Z", since=at("2026-11-24T01:00"), again=at("2026-11-25T12:30"))
    record = Record(since and at(since), {waits.slot: waits})
    assert due(DATED, record, at("2026-11-25T12:29")).run == []
    assert due(DATED, record, at("2026-11-25T12:30")).run == [waits]
