"""`[schedules.NAME]` of `overnight.toml`: when an input becomes a batch."""

import re
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final

from pydantic import Field, ValidationInfo, field_validator

from workers.config import fields
from workers.config.fields import Name, Seconds, TimeZone
from workers.config.provider_settings import Table

#: The names that a schedule's input may have in braces, and how each writes the time of a run.
INPUT_PARTS: Final[Mapping[str, Callable[[datetime], str]]] = {
    "date": lambda run: run.strftime("%Y-%m-%d"),
    "yesterday": lambda run: (run.date() - timedelta(days=1)).isoformat(),
    "year": lambda run: run.strftime("%Y"),
    "month": lambda run: run.strftime("%m"),
    "day": lambda run: run.strftime("%d"),
    "hour": lambda run: run.strftime("%H"),
    "minute": lambda run: run.strftime("%M"),
}


class ScheduleSettings(Table):
    """When a workflow's input becomes a batch without anyone submitting it."""

    cron: fields.Cron
    timezone: TimeZone = "UTC"
    workflow: Name
    input: str = Field(min_length=1)
    input_wait: Seconds = 6 * 3600.0

    @field_validator("input", mode="after")
    @classmethod
    def _path(cls, value: str, info: ValidationInfo) -> str:
        if re.search(r"[{}]", re.sub(r"\{(" + "|".join(INPUT_PARTS) + r")\}", "", value)):
            raise ValueError(f"may hold {', '.join(f'{{{part}}}' for part in INPUT_PARTS)} but no other braces")
        return value if "://" in value else str(fields.folder(info) / Path(value).expanduser())

    @property
    def dated(self) -> bool:
        """Whether each run has an input of its own."""
        return "{" in self.input

    def source(self, scheduled_for: datetime) -> str:
        """The input of the run that was due at `scheduled_for`, in the schedule's time zone."""
        source = self.input
        for part, written in INPUT_PARTS.items():
            source = source.replace(f"{{{part}}}", written(scheduled_for))
        return source
