"""Which windows of which budgets a job falls into, now and next.

The admission picks between the two by the server's clock, so midnight belongs to exactly one of them.
"""

from datetime import UTC, datetime, timedelta
from functools import lru_cache
from zoneinfo import ZoneInfo

from limits.budget import BudgetWindow
from workers.config.settings import Settings

_MICRO = 1_000_000

#: Whose budget it is where each batch has one of its own: that of all jobs without a batch.
SINGLE = "single"


def limits(settings: Settings, workflow: str) -> list[tuple[str, int]]:
    """(subject, limit in n$) of each budget over a workflow's jobs, whatever its window."""
    over = [("all", settings.budget_nano), (f"workflow/{workflow}", settings.workflow(workflow).budget_nano)]
    return [(subject, limit) for subject, limit in over if limit is not None]


def windows(settings: Settings, workflow: str, batch: str | None, now: float) -> tuple[BudgetWindow, ...]:
    """The budgets over this job: its workflow's, and the one over everything. `now` in seconds since the epoch."""
    found = []
    if settings.budget_nano is not None:
        found.append(window("all", settings.budget_nano, settings.budget_window, "UTC", None, now))
    chosen = settings.workflow(workflow)
    if chosen.budget_nano is not None:
        subject = f"workflow/{workflow}"
        found.append(window(subject, chosen.budget_nano, chosen.budget_window, chosen.timezone, batch, now))
    return tuple(found)


def window(subject: str, limit: int, kind: str, timezone: str, batch: str | None, now: float) -> BudgetWindow:
    """One budget's current and next window. `limit` in n$; `kind` is day, month, batch or total.

    Jobs without a batch share one window a day where each batch has one of its own: theirs would never end.
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
    """The day or month in which a second since the epoch lies, and the next: one answer for all jobs of that second."""
    zone = ZoneInfo(timezone)
    today = datetime.fromtimestamp(second, zone).date()
    begins = today if kind == "day" else today.replace(day=1)
    turns = begins + timedelta(days=1) if kind == "day" else (begins + timedelta(days=32)).replace(day=1)
    boundary = datetime(turns.year, turns.month, turns.day, tzinfo=zone).astimezone(UTC)
    form = "%Y-%m-%d" if kind == "day" else "%Y-%m"
    until = round(boundary.timestamp()) * _MICRO
    return BudgetWindow(subject, limit, begins.strftime(form), until, turns.strftime(form))
