"""A batch's record in Redis: what it is, and how far it has come.

Its statuses are those of OpenAI's batches (https://platform.openai.com/docs/api-reference/batch/object). Only a batch
that came over HTTP is ever `validating`: `overnight submit` checks all lines before it makes a record. A batch is
`failed` if that check finds a problem, or if its input is gone, so that the names of its remaining jobs are unknown.

A batch runs in rounds: the first runs every line, and each `overnight retry` starts another for the jobs that failed.
"""

import re
from dataclasses import dataclass, field, fields
from typing import Any, Final

import orjson

from limits.budget import NANO
from tasks.batches import check_counts

#: Statuses of a batch whose jobs may still run, or whose files are not complete yet.
LIVE = frozenset({"validating", "in_progress", "finalizing", "cancelling", "expiring"})

#: Statuses that are final, unless `overnight retry` starts another round.
ENDED = frozenset({"completed", "failed", "expired", "cancelled"})

_ID: Final = re.compile(r"batch_[0-9a-z]{1,64}")

#: Seconds between two marks of a batch's pace.
PACE_EVERY = 15.0


@dataclass(frozen=True, slots=True)
class Batch:
    """A batch's record. Times are in seconds since the epoch, 0 for an event that has not happened; money is in n$.

    - `round` counts from 0; `began` is when this round began.
    - Feed: in this round the input is read up to byte `fed_offset`, the end of line `fed_line`. `fed` lines were handed
      to the queue or had ended in an earlier round. The lines handed out last had `fed_each` bytes each.
    - `lanes` are those that may carry its lines, with commas; '' is live only. With the batch lane, the input is
      divided among the lanes up to byte `divided_offset`, the end of line `divided_line`. `offloaded` lines are in the
      batch lane now. `fed` counts them, too.
    - `copies` lines repeat an earlier line and are never fed. They end when the result of that line is written:
      `copies_completed` in any round, and `copies_failed` in this one. From then on `fed` counts them, too.
    - `pilot` lines were picked to be answered first, and `pilot_fed` of them were handed out in this round. Until
      `pilot_over` is 1, nothing else is.
    - Collect: results are written up to `written_id`, and `plan` is the end of the write in progress (results.py).
      There this round's files have `output_offset` and `errors_offset` bytes, after `parts` writes.
    - `stopping` is the status in which a cancelled or expired batch will end.
    - `short_since`: since then the queue has held fewer messages than jobs are out.
    - `pace` holds two earlier pairs of (time, jobs ended).
    - `models` are the targets that its jobs may go to; `trace` is the W3C traceparent of its submission.
    - `expected_…` are from the estimate at its submission: `expected_seconds` of all lines live, and
      `expected_lane_seconds` by its lanes, 0 if unknown.
    - `client` and `request` are from the HTTP request that created it (acceptance.py), `problems` what its check found
      (JSON); '' if it was submitted on the command line. `output_removed` and `errors_removed` are 1 if the client has
      deleted those files, or they have expired.
    - `token` is the secret that proves its lines (tasks/jobs/proof.py).
    - `cached_tokens` and `reasoning_tokens` are parts of the input and output tokens; agents' calls are not in them.
    - `cut_off` answers were cut at a ceiling; for `cut_off_default` of them the line had set no ceiling.
    - `checks` counts answers that are not valid by the result of their check (tasks/answers/checks.py), as JSON:
      `failed_…` if their jobs failed for it, `again` the lines that asked for further answers, `fixed` those of them
      that got a valid one. `again_cost` is what further answers cost.
    - `feed_trouble` and `collect_trouble`: why its input cannot be read, or its results cannot be written.
    - `told` and `told_at`: what its jobs wait for, as a worker reported it, and when.
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
    finalizing: float = 0.0
    cancelling: float = 0.0
    ended: float = 0.0
    round: int = 0
    completed: int = 0
    failed: int = 0
    fed: int = 0
    fed_offset: int = 0
    fed_line: int = 0
    fed_each: int = 0
    copies: int = 0
    copies_completed: int = 0
    copies_failed: int = 0
    pilot: int = 0
    pilot_fed: int = 0
    pilot_over: int = 0
    lanes: str = ""
    divided_offset: int = 0
    divided_line: int = 0
    offloaded: int = 0
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
    client: str = ""
    request: str = ""
    problems: str = ""
    output_removed: int = 0
    errors_removed: int = 0
    cost: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    cached_tokens: int = 0
    reasoning_tokens: int = 0
    calls: int = 0
    throttled: int = 0
    cut_off: int = 0
    cut_off_default: int = 0
    checks: str = "{}"
    again_cost: int = 0
    expected_cost: int = 0
    expected_input: int = 0
    expected_output: int = 0
    expected_seconds: float = 0.0
    expected_lane_seconds: float = 0.0
    feed_trouble: str = ""
    offload_trouble: str = ""
    collect_trouble: str = ""
    told: str = ""
    told_at: float = 0.0
    token: str = field(default="", repr=False)

    @property
    def trouble(self) -> str:
        """Why the batch makes no progress, for messages; '' if it has no trouble."""
        return self.collect_trouble or self.feed_trouble or self.offload_trouble

    @property
    def has_batch_lane(self) -> bool:
        """Whether the batch lane may carry its lines."""
        return "batch" in self.lanes.split(",")

    @property
    def has_flex_lane(self) -> bool:
        """Whether the flex lane may carry its lines."""
        return "flex" in self.lanes.split(",")

    @property
    def out(self) -> int:
        """Lines that were handed out to the queue and have not ended."""
        return max(0, self.fed - self.done - self.offloaded)

    @property
    def in_pilot(self) -> bool:
        """Whether nothing but its pilot is handed out now."""
        return bool(self.pilot and not self.pilot_over)

    @property
    def distinct(self) -> int:
        """Its lines that are no copies."""
        return self.total - self.copies

    @property
    def waiting_copies(self) -> int:
        """Copies whose original has no written result yet."""
        return self.copies - self.copies_completed - self.copies_failed

    @property
    def to_feed(self) -> int:
        """Lines that have not been handed out yet."""
        return self.total - self.fed - self.waiting_copies

    @property
    def feed_end(self) -> int:
        """The byte up to which its input may be fed: behind it the lines are not divided among the lanes yet."""
        return self.divided_offset if self.has_batch_lane else self.bytes

    @property
    def each(self) -> int:
        """The bytes of one line: the average, or that of the lines handed out last if it is larger."""
        return max(self.bytes // max(self.total, 1), self.fed_each, 1)

    @property
    def done(self) -> int:
        """Jobs that have completed or failed."""
        return self.completed + self.failed

    @property
    def left(self) -> int:
        """Jobs that have not ended."""
        return self.total - self.done

    @property
    def over(self) -> bool:
        """Whether its status is final."""
        return self.status in ENDED

    @property
    def shown_status(self) -> str:
        """Its status for users. OpenAI has no status for a batch that has expired while calls are in flight."""
        return "finalizing" if self.status == "expiring" else self.status

    def rate(self, now: float) -> float | None:
        """Jobs per second, recently; None if unknown."""
        marks: list[tuple[float, int]] = orjson.loads(self.pace) if self.pace else []
        for at, done in marks:
            if 1.0 <= now - at <= 10 * PACE_EVERY and self.done >= done:
                return (self.done - done) / (now - at)
        return None

    def still(self, now: float) -> float:
        """Seconds for which no job has ended, as far as known."""
        marks: list[tuple[float, int]] = orjson.loads(self.pace) if self.pace else [(self.began, 0)]
        return max((now - at for at, done in marks if done == self.done), default=0.0)

    @property
    def check_counts(self) -> dict[str, int]:
        """The counts of `checks` by name."""
        found: dict[str, int] = orjson.loads(self.checks)
        return found

    @property
    def targets(self) -> list[str]:
        """The targets (`provider/model`) that its jobs may go to; empty if unknown."""
        return self.models.split()

    def shown(self) -> dict[str, Any]:
        """The record as `overnight status --json` prints it."""
        expected: dict[str, Any] | None = None
        if self.expected_input:
            expected = {
                "input_tokens": self.expected_input,
                "output_tokens": self.expected_output,
                "cost_usd": self.expected_cost / NANO,
                "seconds": round(self.expected_lane_seconds or self.expected_seconds, 1),
            }
        return {
            "id": self.id,
            "workflow": self.workflow,
            "input": self.name,
            "status": self.shown_status,
            "request_counts": {"total": self.total, "completed": self.completed, "failed": self.failed},
            "copies": self.copies,
            "pilot": {"lines": self.pilot, "over": bool(self.pilot_over)} if self.pilot else None,
            "created_at": int(self.created),
            "expires_at": int(self.deadline) or None,
            "ended_at": int(self.ended) or None,
            "round": self.round,
            "cost_usd": self.cost / NANO,
            "usage": {"input_tokens": self.input_tokens, "output_tokens": self.output_tokens},
            "calls": self.calls,
            "throttled": self.throttled,
            "cut_off": {"total": self.cut_off, "by_default_ceiling": self.cut_off_default},
            "checks": check_counts.by_result(self.check_counts),
            "again": check_counts.again(self.check_counts, self.again_cost),
            "estimate": expected,
            "trouble": self.trouble or None,
        }


_TYPES: dict[str, type[int | float | str]] = {
    each.name: {"int": int, "float": float, "str": str}[str(getattr(each.type, "__name__", each.type))]
    for each in fields(Batch)
}


def is_batch_id(name: str) -> bool:
    """Whether `name` has the form of a batch's id, which is safe as a folder's name."""
    return _ID.fullmatch(name) is not None


def from_hash(record: dict[bytes, bytes]) -> Batch | None:
    """Read a record; None if the hash is empty."""
    if not record:
        return None
    known = {key.decode(): value.decode() for key, value in record.items() if key.decode() in _TYPES}
    return Batch(**{name: _TYPES[name](value) for name, value in known.items()})  # type: ignore[arg-type]  # by name


def to_hash(batch: Batch) -> dict[str, str]:
    """The fields of a batch's record."""
    return {each.name: str(getattr(batch, each.name)) for each in fields(batch)}


def marked(batch: Batch, now: float) -> str | None:
    """The batch's `pace` with the present count added; None if the last is younger than `PACE_EVERY`."""
    marks: list[tuple[float, int]] = orjson.loads(batch.pace) if batch.pace else []
    if marks and now - marks[-1][0] < PACE_EVERY:
        return None
    return orjson.dumps([*marks[-1:], (now, batch.done)]).decode()
