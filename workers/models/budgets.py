"""The budget windows that a job falls into: the current one and the next.

Admission picks one of the two by the server's clock, so midnight belongs to exactly one of them.
"""

from datetime import UTC, datetime, timedelta
from functools import lru_cache
from zoneinfo import ZoneInfo

from limits.budget import BudgetWindow
from limits.encoding import SECOND
from workers.config.settings import Settings

#: The subject of jobs without a batch, if each batch has a budget of its own.
SINGLE = "single"


def limits(settings: Settings, workflow: str) -> list[tuple[str, int]]:
    """(subject, limit in n$) of each budget that applies to a workflow's jobs."""
    over = [("all", settings.budget_nano), (f"workflow/{workflow}", settings.workflow(workflow).budget_nano)]
    return [(subject, limit) for subject, limit in over if limit is not None]


def windows(settings: Settings, workflow: str, batch: str | None, now: float) -> tuple[BudgetWindow, ...]:
    """The budgets of this job: the one over everything and its workflow's. `now` in seconds since the epoch."""
    found = []
    if settings.budget_nano is not None:
        found.append(window("all", settings.budget_nano, settings.budget_window, "UTC", None, now))
    chosen = settings.workflow(workflow)
    if chosen.budget_nano is not None:
        subject = f"workflow/{workflow}"
        found.append(window(subject, chosen.budget_nano, chosen.budget_window, chosen.timezone, batch, now))
    return tuple(found)


def window(subject: str, limit: int, kind: str, timezone: str, batch: str | None, now: float) -> BudgetWindow:
    """A budget's current and next window. `limit` in n$; `kind` is day, month, batch or total.

    If each batch has a budget of its own, jobs without a batch share one a day: theirs would never end.
    """
    if kind == "batch" and batch:
        return BudgetWindow(f"{subject}/{batch}", limit, "batch")
    if kind == "batch":
        return _of_calendar(f"{subject}/{SINGLE}", limit, "day", timezone, int(now))
    if kind == "total":
        return BudgetWindow(subject, limit, "total")
    return _of_calendar(subject, limit, kind, timezone, int(now))


@lru_cache(1024)
def _of_calendar(subject: str, limit: int, kind: str, timezone: str, second: int) -> BudgetWindow:
    """The day or month that contains `second` (since the epoch), and the next. Cached for all jobs of that second."""
    zone = ZoneInfo(timezone)
    today = datetime.fromtimestamp(second, zone).date()
    begins = today if kind == "day" else today.replace(day=1)
    turns = begins + timedelta(days=1) if kind == "day" else (begins + timedelta(days=32)).replace(day=1)
    boundary = datetime(turns.year, turns.month, turns.day, tzinfo=zone).astimezone(UTC)
    form = "%Y-%m-%d" if kind == "day" else "%Y-%m"
    until = round(boundary.timestamp()) * SECOND
    return BudgetWindow(subject, limit, begins.strftime(form), until, turns.strftime(form))
