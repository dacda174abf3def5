"""A batch's record in Redis: what it is, and how far it has come.

Its statuses are those of OpenAI's batches
(https://platform.openai.com/docs/api-reference/batch/object): `validating` is over before a record exists,
since nothing is queued before every line is checked.
"""

from dataclasses import dataclass, fields
from typing import Any

#: Statuses in which jobs may still run, and those in which nothing more will happen.
LIVE = frozenset({"in_progress", "finalizing", "cancelling", "expiring"})
ENDED = frozenset({"completed", "failed", "expired", "cancelled"})

#: Nano-dollars in a dollar.
NANO = 1_000_000_000


@dataclass(frozen=True, slots=True)
class Batch:
    """One batch, as its record says. Times are in seconds since the epoch, 0 where not yet; money in n$.

    `fed` lines have been handed to the queue, up to byte `fed_offset` of the input. Results are written up to
    stream entry `written_id`: `output_offset` and `failures_offset` are the files' lengths there, `parts` the
    number of writes; `plan` is the end of the write that is going on, as `entry id:entries`.
    `stopping` is the status that a cancelled or expired batch will end in.
    """

    id: str
    workflow: str
    name: str
    status: str
    total: int
    bytes: int
    storage: str
    created: float
    deadline: float = 0.0
    ended: float = 0.0
    round: int = 0
    completed: int = 0
    failed: int = 0
    fed: int = 0
    fed_offset: int = 0
    fed_line: int = 0
    output_offset: int = 0
    failures_offset: int = 0
    parts: int = 0
    written_id: str = "0-0"
    plan: str = ""
    stopping: str = ""
    cost: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    calls: int = 0
    throttled: int = 0
    trouble: str = ""

    @property
    def done(self) -> int:
        """Jobs that have ended, either way."""
        return self.completed + self.failed

    @property
    def over(self) -> bool:
        """Whether nothing more will happen to it."""
        return self.status in ENDED

    def shown(self) -> dict[str, Any]:
        """The record as `overnight status --json` prints it."""
        return {
            "id": self.id,
            "workflow": self.workflow,
            "input": self.name,
            "status": "cancelling" if self.status == "expiring" else self.status,
            "request_counts": {"total": self.total, "completed": self.completed, "failed": self.failed},
            "created_at": int(self.created),
            "expires_at": int(self.deadline) or None,
            "ended_at": int(self.ended) or None,
            "cost_usd": self.cost / NANO,
            "usage": {"input_tokens": self.input_tokens, "output_tokens": self.output_tokens},
            "calls": self.calls,
            "throttled": self.throttled,
            "trouble": self.trouble or None,
        }


_TYPES: dict[str, type[int | float | str]] = {
    field.name: {"int": int, "float": float, "str": str}[str(getattr(field.type, "__name__", field.type))]
    for field in fields(Batch)
}


def from_hash(record: dict[bytes, bytes]) -> Batch | None:
    """The batch that a Redis hash holds, or None where there is none."""
    if not record:
        return None
    known = {key.decode(): value.decode() for key, value in record.items() if key.decode() in _TYPES}
    return Batch(**{name: _TYPES[name](value) for name, value in known.items()})  # type: ignore[arg-type]  # by name


def to_hash(batch: Batch) -> dict[str, str]:
    """The fields of a new record."""
    return {field.name: str(getattr(batch, field.name)) for field in fields(batch)}
