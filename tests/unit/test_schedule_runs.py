"""Which runs are due: decided from a record and the time."""

from datetime import UTC, datetime

import pytest

from tasks.schedules.runs import LATE, MADE_UP, Due, Record, Run, due
from workers.config.settings import ScheduleSettings

DATED = ScheduleSettings(cron="0 2 * * *", workflow="nightly", input="/in/{date}.jsonl")
SAME = ScheduleSettings(cron="0 2 * * *", workflow="nightly", input="/in/all.jsonl")


def at(text: str) -> float:
    return datetime.fromisoformat(text + "+00:00").timestamp()


def decided(settings: ScheduleSettings, since: str, now: str, *runs: Run) -> Due:
    return due(settings, Record(at(since), {run.scheduled_for: run for run in runs}), at(now))


def days(runs: list[Run]) -> list[str]:
    return [run.scheduled_for[8:10] for run in runs]


def test_a_new_schedule_begins_now() -> None:
    found = due(DATED, Record(None, {}), at("2026-11-25T12:00"))
    assert found == Due([], [], at("2026-11-25T12:00"))


def test_a_run_is_due_from_its_minute_until_it_is_final() -> None:
    assert days(decided(DATED, "2026-11-24T12:00", "2026-11-25T01:59").runs) == []
    found = decided(DATED, "2026-11-24T12:00", "2026-11-25T02:00")
    assert days(found.runs) == ["25"]
    assert not found.runs[0].missed
    assert found.since == at("2026-11-24T12:00"), "a beat that dies now leaves the run to the next one"
    over = Run("2026-11-25T02:00Z", state="ran", batch="batch_1")
    found = decided(DATED, "2026-11-24T12:00", "2026-11-25T02:01", over)
    assert (found.runs, found.since) == ([], at("2026-11-25T02:00"))


def test_missed_runs_with_their_own_inputs_are_made_up() -> None:
    found = decided(DATED, "2026-11-22T12:00", "2026-11-25T01:00")
    assert (days(found.runs), found.skipped) == (["23", "24"], [])
    assert all(run.missed for run in found.runs)


def test_of_missed_runs_with_one_input_the_newest_is_made_up() -> None:
    found = decided(SAME, "2026-11-22T12:00", "2026-11-25T01:00")
    assert (days(found.runs), days(found.skipped)) == (["24"], ["23"])
    found = decided(SAME, "2026-11-22T12:00", "2026-11-25T02:01")
    assert (days(found.runs), days(found.skipped)) == (["25"], ["23", "24"])


def test_only_the_newest_missed_runs_are_made_up() -> None:
    found = decided(DATED, "2026-10-25T12:00", "2026-11-25T01:00")
    assert days(found.runs) == ["18", "19", "20", "21", "22", "23", "24"]
    assert len(found.runs) == MADE_UP
    assert len(found.skipped) == 30 - MADE_UP
    assert found.since == at("2026-11-17T02:00")


def test_a_waiting_run_is_due_at_its_time() -> None:
    waits = Run("2026-11-25T02:00Z", since=at("2026-11-25T02:00"), again=at("2026-11-25T02:05"))
    assert decided(DATED, "2026-11-24T12:00", "2026-11-25T02:04", waits).runs == []
    assert decided(DATED, "2026-11-24T12:00", "2026-11-25T02:05", waits).runs == [waits]


def test_a_later_run_does_not_wait_for_a_waiting_one() -> None:
    waits = Run("2026-11-24T02:00Z", since=at("2026-11-24T02:00"), again=at("2026-11-25T02:05"))
    found = decided(DATED, "2026-11-23T12:00", "2026-11-25T02:00", waits)
    assert (days(found.runs), found.since) == (["25"], waits.due)


@pytest.mark.parametrize(("seconds", "missed"), [(LATE, False), (LATE + 1, True)])
def test_a_run_is_missed_after_ten_minutes_without_a_beat(seconds: float, missed: bool) -> None:
    due_at = at("2026-11-25T02:00")
    assert Run("2026-11-25T02:00Z", since=due_at + seconds).missed is missed


@pytest.mark.parametrize(
    ("name", "source"),
    [
        ("{date}.jsonl", "/in/2026-03-01.jsonl"),
        ("{yesterday}.jsonl", "/in/2026-02-28.jsonl"),
        ("{year}/{month}/{day}/{hour}{minute}.jsonl", "/in/2026/03/01/0205.jsonl"),
    ],
)
def test_an_input_contains_the_date_of_its_run(name: str, source: str) -> None:
    settings = ScheduleSettings(cron="5 2 * * *", workflow="nightly", input=f"/in/{name}")
    assert settings.dated
    assert settings.source(datetime(2026, 3, 1, 2, 5, tzinfo=UTC)) == source


@pytest.mark.parametrize("since", [None, "2026-11-25T12:00"])
def test_a_waiting_run_stays_due_when_times_change(since: str | None) -> None:
    waits = Run("2026-11-24T01:00Z", since=at("2026-11-24T01:00"), again=at("2026-11-25T12:30"))
    record = Record(since and at(since), {waits.scheduled_for: waits})
    assert due(DATED, record, at("2026-11-25T12:29")).runs == []
    assert due(DATED, record, at("2026-11-25T12:30")).runs == [waits]
