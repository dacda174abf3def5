"""The results of a chunk: each is recorded once through `finish`, and settles its part of what the chunk holds.

A result that says nothing about its line (expired, cancelled, the provider's own failure) is left out here: the line is
still in the batch lane when all results are recorded, and goes live then (going_live.py). So does a line with an answer
that is not valid, if it asks for a further one: the answer is kept.
"""

import logging
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, Final

from limits.client.scripts import Call
from limits.counting import Estimate
from limits.encoding import settlement_json
from limits.reservation import Ask, Settlement
from tasks.answers import again
from tasks.answers.checks import Checked
from tasks.batches.batch import Batch
from tasks.batches.batch_lane import BatchLane
from tasks.batches.chunk import Chunk
from tasks.batches.chunk_checks import check_all
from tasks.batches.chunk_lines import ChunkLine
from tasks.batches.store import Store
from tasks.jobs import outcomes, retry
from tasks.jobs import store as job_store
from tasks.jobs.attempt import Attempt
from tasks.jobs.job import Job, Line
from tasks.jobs.kept import keep
from tasks.jobs.proof import proof
from tasks.jobs.state import JobState
from tasks.jobs.usage import believed
from workers.models.tiers import BATCH
from workers.providers.answer import Answer
from workers.providers.batch_api import BatchApi, Result
from workers.providers.bodies import with_output_ceiling
from workers.providers.errors import ProviderError, Refused

log = logging.getLogger(__name__)

#: Results that are recorded in one round trip.
AT_ONCE: Final = 200


@dataclass(slots=True)
class Tally:
    """What some results have brought. Money in n$."""

    completed: int = 0
    failed: int = 0
    unreadable: int = 0
    cost: int = 0
    saved: int = 0


class ChunkResults:
    """Records the results of one chunk."""

    def __init__(self, store: Store, lane: BatchLane, batch: Batch, chunk: Chunk, lines: dict[str, ChunkLine]) -> None:
        self.store = store
        self.lane = lane
        self.batch = batch
        self.chunk = chunk
        self.lines = lines
        api = lane.api(chunk.provider)
        assert api is not None
        self.api: BatchApi = api
        self.workflow = lane.settings.workflow(batch.workflow)
        live = next(route for route in lane.routes.find(chunk.target, chunk.url) if route.target == chunk.target)
        self.live = live
        self.route = replace(live, rates=lane.rates(live), tier=BATCH)

    def record(self, raw: list[bytes]) -> Tally:
        """Record some lines of a result file, in one round trip. Lines that cannot be read are left out."""
        found = Tally()
        ends: list[tuple[ChunkLine, Attempt, Answer | ProviderError]] = []
        calls: list[Call[Any]] = []
        for each in raw:
            result = self.api.read(each)
            line = self.lines.get(result.custom_id) if result is not None else None
            if result is None:
                found.unreadable += 1
            elif line is None:
                log.warning("%s has a result that belongs to no line of it; it is left out", self.chunk.id)
            elif result.status is not None:
                attempt = self._attempt(line)
                ends.append((line, attempt, self._read(result, attempt)))
        answers = [(line, end) for line, _, end in ends if isinstance(end, Answer)]
        checked = check_all(self.lane.settings, self.batch, self.chunk, answers)
        for line, attempt, end in ends:
            if isinstance(end, ProviderError):
                calls.extend(self._of_failure(line, attempt, end, found))
            else:
                calls.append(self._of_answer(line, attempt, end, checked[line.number], found))
        if calls:
            self.store.server.run_many(calls)
        return found

    def _read(self, result: Result, attempt: Attempt) -> Answer | ProviderError:
        """A result's answer, or its failure."""
        try:
            answer = self.api.answer(self.chunk.url, result)
        except ProviderError as error:
            error.usage = believed(attempt, error.usage)
            return error
        return replace(answer, usage=believed(attempt, answer.usage))

    def _of_failure(self, line: ChunkLine, attempt: Attempt, error: ProviderError, found: Tally) -> Iterator[Call[Any]]:
        """The script that records a failure, if it says anything of its line."""
        closing = outcomes.of_failure(attempt, error)
        if isinstance(error, Refused):
            fail = retry.Fail(error.code, error.message, error.status)
            outcome = outcomes.failed(attempt, error, fail, self.chunk.id)
            outcome = replace(outcome, settlement=self._part(line, closing))
            yield job_store.finish(self.store.keys, attempt.job, outcome, calls=1)
            found.failed += 1
        elif closing.amount:
            yield job_store.settle_line(self.store.keys, attempt.job, self._part(line, closing), closing)
        found.cost += closing.amount

    def _of_answer(
        self, line: ChunkLine, attempt: Attempt, answer: Answer, checked: Checked, found: Tally
    ) -> Call[Any]:
        """The script that records an answer: as its line's result, or kept until the line has a further one."""
        keys, job = self.store.keys, attempt.job
        closing = outcomes.of_answer(attempt, answer)
        saved = self._saved(attempt.estimate, answer, closing.amount)
        closing = replace(closing, columns={**closing.columns, "batch_calls": 1, "batch_saved": saved})
        found.cost += closing.amount
        found.saved += saved
        outcome = outcomes.answered(attempt, answer, self.chunk.id, checked)
        outcome = replace(outcome, settlement=self._part(line, closing))
        if outcome.ok and not checked.is_right and self.workflow.on_invalid == "fail":
            outcome = outcomes.not_valid(outcome, checked)
        step = self._again(checked, line) if outcome.ok else None
        if step is not None:
            kept = keep(None, outcome, step, job.round, JobState(calls=1, counted_calls=1))
            return job_store.keep_answer(keys, job, "", kept.encode(), outcome, calls=1)
        found.completed += outcome.ok
        found.failed += not outcome.ok
        return job_store.finish(keys, job, outcome, calls=1)

    def _again(self, checked: Checked, line: ChunkLine) -> again.Again | None:
        """How the line asks for a further answer, if it does."""
        each = line.output_ceiling // line.choices
        return again.next_answer(checked, self.workflow, answers=1, now=again.Again(), ceiling=each)

    def _attempt(self, line: ChunkLine) -> Attempt:
        """The line's attempt in the batch lane, as `outcomes` takes it."""
        batch, chunk = self.batch, self.chunk
        body: dict[str, Any] = {"model": chunk.model}
        bounded = with_output_ceiling(chunk.url, body, line.output_ceiling, model=chunk.model)
        job = Job(
            Line(line.custom_id, chunk.url, bounded if line.own_ceiling else body),
            "",
            batch.workflow,
            batch.id,
            line.number,
            chunk.round,
            proof=proof(batch.token, line.number, chunk.round),
        )
        target = chunk.target
        attempt = Attempt(job, JobState(), 1, [self.route], {target: bounded}, {target: line.estimate})
        attempt.ask, attempt.route = Ask(chunk.id, chunk.id, ()), self.route
        return attempt

    def _part(self, line: ChunkLine, closing: Settlement) -> bytes:
        place = line.number - self.chunk.first
        return settlement_json(self.chunk.id, self.chunk.id, closing, part=(place, line.held))

    def _saved(self, estimate: Estimate, answer: Answer, amount: int) -> int:
        """n$ that a live call with the same answer would have cost more."""
        if self.live.rates is None or answer.usage is None:
            return 0
        return max(0, self.live.rates.cost(answer.usage, media=estimate.media) - amount)
