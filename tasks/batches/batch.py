"""A batch's record in Redis: what it is, and how far it has come.

Its statuses are those of OpenAI's batches
(https://platform.openai.com/docs/api-reference/batch/object): `validating` is over before a record exists,
since nothing is queued before every line is checked; `failed` is a batch whose input has vanished, so that not even
the names of its remaining jobs are known.

A batch runs in *rounds*: the first one runs every line, each `overnight retry` starts another for what failed.
"""

import re
from dataclasses import dataclass, field, fields
from typing import Any, Final

import orjson

from limits.budget import NANO

#: Statuses in which jobs may still run, and those in which nothing more will happen.
LIVE = frozenset({"in_progress", "finalizing", "cancelling", "expiring"})
ENDED = frozenset({"completed", "failed", "expired", "cancelled"})

_ID: Final = re.compile(r"batch_[0-9a-z]{1,64}")

#: Seconds between two marks of a batch's pace.
PACE_EVERY = 15.0


@dataclass(frozen=True, slots=True)
class Batch:
    """One batch, as its record says. Times are in seconds since the epoch, 0 where not yet; money in n$.

    `round` counts from 0, and `began` is when it did. In this round, the input was read up to byte `fed_offset`, which
    is the end of line `fed_line`; `fed` lines in all have been handed to the queue or had ended before, the latest of
    `fed_each` bytes each. Results are written up to stream entry `written_id`: `output_offset` and `errors_offset` are
    the lengths of this round's files there, `parts` the number of writes; `plan` is the end of the write that is going
    on, as `entry id:entries`.
    `stopping` is the status that a cancelled or expired batch will end in. `short_since` is since when fewer messages
    are in the queue than jobs are owed. `pace` holds two earlier (time, jobs ended). `models` names the
    targets that its jobs may go to. `trace` is its submission's W3C traceparent, where that was traced. The
    `expected_…` are what the batch was estimated at, when it was submitted.
    `token` is the secret that its lines are proved with (tasks/jobs/proof.py).
    `cut_off` answers met a ceiling, `cut_off_default` of them one that their line had not set.
    `feed_trouble` and `collect_trouble` say what keeps its input from being read, or its results from being written;
    `told` is what a worker said at `told_at` that its jobs wait for.
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
    began: float = 0.0
    ended: float = 0.0
    round: int = 0
    completed: int = 0
    failed: int = 0
    fed: int = 0
    fed_offset: int = 0
    fed_line: int = 0
    fed_each: int = 0
    output_offset: int = 0
    errors_offset: int = 0
    parts: int = 0
    written_id: str = "0-0"
    plan: str = ""
    stopping: str = ""
    short_since: float = 0.0
    pace: str = ""
    models: str = ""
    trace: str = ""
    cost: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    calls: int = 0
    throttled: int = 0
    cut_off: int = 0
    cut_off_default: int = 0
    expected_cost: int = 0
    expected_input: int = 0
    expected_output: int = 0
    expected_seconds: float = 0.0
    feed_trouble: str = ""
    collect_trouble: str = ""
    told: str = ""
    told_at: float = 0.0
    token: str = field(default="", repr=False)

    @property
    def trouble(self) -> str:
        """What keeps it from going on, in words; '' where nothing does."""
        return self.collect_trouble or self.feed_trouble

    @property
    def each(self) -> int:
        """The bytes of a line: of an average one, or of those handed out last if these are larger."""
        return max(self.bytes // max(self.total, 1), self.fed_each, 1)

    @property
    def done(self) -> int:
        """Jobs that have ended, either way."""
        return self.completed + self.failed

    @property
    def left(self) -> int:
        """Jobs that have not ended."""
        return self.total - self.done

    @property
    def over(self) -> bool:
        """Whether nothing more will happen to it."""
        return self.status in ENDED

    @property
    def shown_status(self) -> str:
        """Its status in OpenAI's words, which have none for a deadline that has passed while calls are in flight."""
        return "finalizing" if self.status == "expiring" else self.status

    def rate(self, now: float) -> float | None:
        """Jobs a second of late, None where too little is known."""
        marks: list[tuple[float, int]] = orjson.loads(self.pace) if self.pace else []
        for at, done in marks:
            if 1.0 <= now - at <= 10 * PACE_EVERY and self.done >= done:
                return (self.done - done) / (now - at)
        return None

    def still(self, now: float) -> float:
        """For how many seconds it is known that no job has ended."""
        marks: list[tuple[float, int]] = orjson.loads(self.pace) if self.pace else [(self.began, 0)]
        return max((now - at for at, done in marks if done == self.done), default=0.0)

    @property
    def targets(self) -> list[str]:
        """The models, as `provider/model`, that its jobs may go to; empty where that is not known."""
        return self.models.split()

    def shown(self) -> dict[str, Any]:
        """The record as `overnight status --json` prints it."""
        expected: dict[str, Any] | None = None
        if self.expected_input:
            expected = {
                "input_tokens": self.expected_input,
                "output_tokens": self.expected_output,
                "cost_usd": self.expected_cost / NANO,
                "seconds": round(self.expected_seconds, 1),
            }
        return {
            "id": self.id,
            "workflow": self.workflow,
            "input": self.name,
            "status": self.shown_status,
            "request_counts": {"total": self.total, "completed": self.completed, "failed": self.failed},
            "created_at": int(self.created),
            "expires_at": int(self.deadline) or None,
            "ended_at": int(self.ended) or None,
            "round": self.round,
            "cost_usd": self.cost / NANO,
            "usage": {"input_tokens": self.input_tokens, "output_tokens": self.output_tokens},
            "calls": self.calls,
            "throttled": self.throttled,
            "cut_off": {"total": self.cut_off, "by_default_ceiling": self.cut_off_default},
            "estimate": expected,
            "trouble": self.trouble or None,
        }


_TYPES: dict[str, type[int | float | str]] = {
    each.name: {"int": int, "float": float, "str": str}[str(getattr(each.type, "__name__", each.type))]
    for each in fields(Batch)
}


def is_batch_id(name: str) -> bool:
    """Whether this can be a batch's id, which names a folder."""
    return _ID.fullmatch(name) is not None


def from_hash(record: dict[bytes, bytes]) -> Batch | None:
    """The batch that a Redis hash holds, or None where there is none."""
    if not record:
        return None
    known = {key.decode(): value.decode() for key, value in record.items() if key.decode() in _TYPES}
    return Batch(**{name: _TYPES[name](value) for name, value in known.items()})  # type: ignore[arg-type]  # by name


def to_hash(batch: Batch) -> dict[str, str]:
    """The fields of a new record."""
    return {each.name: str(getattr(batch, each.name)) for each in fields(batch)}


def marked(batch: Batch, now: float) -> str | None:
    """The batch's `pace` with a mark of now, None where the last mark is young."""
    marks: list[tuple[float, int]] = orjson.loads(batch.pace) if batch.pace else []
    if marks and now - marks[-1][0] < PACE_EVERY:
        return None
    return orjson.dumps([*marks[-1:], (now, batch.done)]).decode()
