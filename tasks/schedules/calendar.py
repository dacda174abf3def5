"""When a schedule's runs are due: five cron fields, read in a time zone.

Each run is due at a minute. If clocks go forward, a run in the skipped hour comes later, by the length of that hour. If
they go back, a run in the repeated hour comes once, unless the schedule runs every hour.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from functools import cached_property
from zoneinfo import ZoneInfo

from celery.schedules import crontab

#: Days searched for the next run: 29 February may be eight years away.
HORIZON = 8 * 366 + 1

_HOURS = 24
_DAY = timedelta(days=1)


@dataclass(frozen=True)
class Calendar:
    """The moments of a cron expression in a time zone."""

    cron: str
    timezone: str = "UTC"

    def between(self, after: datetime, until: datetime) -> Iterator[datetime]:
        """The moments later than `after` and no later than `until`, in UTC, in order."""
        day, last = after.astimezone(self._zone).date() - _DAY, until.astimezone(self._zone).date()
        before = after
        while day <= last:
            for moment in self._moments(day) if self._has(day) else ():
                # A change of clocks may move this day's last moments onto the next day's first ones.
                if before < moment <= until:
                    yield moment
                    before = moment
            day += _DAY

    def next(self, after: datetime) -> datetime:
        """The first moment later than `after`, in UTC."""
        return next(self.between(after, after + HORIZON * _DAY))

    def local(self, moment: datetime) -> datetime:
        """The moment in the schedule's time zone."""
        return moment.astimezone(self._zone)

    @cached_property
    def _zone(self) -> ZoneInfo:
        return ZoneInfo(self.timezone)

    @cached_property
    def _fields(self) -> crontab:
        minute, hour, day, month, weekday = self.cron.split()
        return crontab(minute=minute, hour=hour, day_of_month=day, month_of_year=month, day_of_week=weekday)

    def _has(self, day: date) -> bool:
        """Whether the schedule runs on `day`. If it names days of the month and weekdays, one of the two is enough."""
        fields = self._fields
        if day.month not in fields.month_of_year:
            return False
        of_month, of_week = day.day in fields.day_of_month, day.isoweekday() % 7 in fields.day_of_week
        _, _, days, _, weekdays = self.cron.split()
        # As in cron(8) (https://man7.org/linux/man-pages/man5/crontab.5.html).
        both_named = not days.startswith("*") and not weekdays.startswith("*")
        return of_month or of_week if both_named else of_month and of_week

    def _moments(self, day: date) -> list[datetime]:
        hourly = len(self._fields.hour) == _HOURS
        found = set()
        for hour in self._fields.hour:
            for minute in self._fields.minute:
                local = datetime(day.year, day.month, day.day, hour, minute, tzinfo=self._zone)
                found.add(local.astimezone(UTC))
                if hourly:
                    found.add(local.replace(fold=1).astimezone(UTC))
        return sorted(found)


def name_of(moment: datetime) -> str:
    """A run's `scheduled_for`: its minute in UTC, as in 2026-11-25T01:00Z."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%MZ")


def from_name(name: str) -> datetime:
    """The moment of a `scheduled_for`. Raises ValueError if it is malformed."""
    return datetime.strptime(name, "%Y-%m-%dT%H:%MZ").replace(tzinfo=UTC)
