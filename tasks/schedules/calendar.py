"""When the nights of a schedule are: five fields of cron, read in a time zone.

A slot is a moment of the schedule, to the minute. Where clocks go forward, a slot in the hour that is left out comes
as much later as that hour is long; where they go back, a slot in the hour that comes twice counts once, unless the
schedule runs every hour.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from functools import cached_property
from zoneinfo import ZoneInfo

from celery.schedules import crontab

#: Days that are looked through for the next slot: 29 February may be eight years away.
HORIZON = 8 * 366 + 1

_HOURS = 24
_DAY = timedelta(days=1)


@dataclass(frozen=True)
class Calendar:
    """The slots of a cron expression in a time zone."""

    cron: str
    timezone: str = "UTC"

    def between(self, after: datetime, until: datetime) -> Iterator[datetime]:
        """The slots later than `after` and no later than `until`, in UTC, in their order."""
        day, last = after.astimezone(self._zone).date() - _DAY, until.astimezone(self._zone).date()
        before = after
        while day <= last:
            for slot in self._slots(day) if self._has(day) else ():
                # The next day's first slots may be this day's last ones, put off.
                if before < slot <= until:
                    yield slot
                    before = slot
            day += _DAY

    def next(self, after: datetime) -> datetime:
        """The first slot later than `after`, in UTC."""
        return next(self.between(after, after + HORIZON * _DAY))

    def local(self, slot: datetime) -> datetime:
        """The slot as clocks of the schedule's zone show it."""
        return slot.astimezone(self._zone)

    @cached_property
    def _zone(self) -> ZoneInfo:
        return ZoneInfo(self.timezone)

    @cached_property
    def _fields(self) -> crontab:
        minute, hour, day, month, weekday = self.cron.split()
        return crontab(minute=minute, hour=hour, day_of_month=day, month_of_year=month, day_of_week=weekday)

    def _has(self, day: date) -> bool:
        """Whether the day is one of the schedule's: of its days of the month or its weekdays, where it names both."""
        fields = self._fields
        if day.month not in fields.month_of_year:
            return False
        of_month, of_week = day.day in fields.day_of_month, day.isoweekday() % 7 in fields.day_of_week
        _, _, days, _, weekdays = self.cron.split()
        # As cron(8) has always had it (https://man7.org/linux/man-pages/man5/crontab.5.html).
        both_named = not days.startswith("*") and not weekdays.startswith("*")
        return of_month or of_week if both_named else of_month and of_week

    def _slots(self, day: date) -> list[datetime]:
        hourly = len(self._fields.hour) == _HOURS
        found = set()
        for hour in self._fields.hour:
            for minute in self._fields.minute:
                local = datetime(day.year, day.month, day.day, hour, minute, tzinfo=self._zone)
                found.add(local.astimezone(UTC))
                if hourly:
                    found.add(local.replace(fold=1).astimezone(UTC))
        return sorted(found)


def name_of(slot: datetime) -> str:
    """A slot's name: its minute in UTC, as in 2026-11-25T01:00Z."""
    return slot.astimezone(UTC).strftime("%Y-%m-%dT%H:%MZ")


def from_name(name: str) -> datetime:
    """The slot of a name; ValueError where it is none."""
    return datetime.strptime(name, "%Y-%m-%dT%H:%MZ").replace(tzinfo=UTC)
