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
from tasks.answers import again, checks
from tasks.batches.batch import Batch
from tasks.batches.batch_lane import BatchLane
from tasks.batches.chunk import Chunk
from tasks.batches.chunk_lines import ChunkLine, texts
from tasks.batches.store import Store
from tasks.jobs import job as jobs
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
from workers.providers.bodies import choices, with_output_ceiling
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
        results: list[tuple[Result, ChunkLine]] = []
        for each in raw:
            result = self.api.read(each)
            line = self.lines.get(result.custom_id) if result is not None else None
            if result is None:
                found.unreadable += 1
            elif line is None:
                log.warning("%s has a result that belongs to no line of it; it is left out", self.chunk.id)
            elif result.status is not None:
                results.append((result, line))
        asking = [line for _, line in results if line.asks]
        requests = {number: jobs.decode(text)["body"] for number, text in texts(self.batch, asking)} if asking else {}
        if calls := [call for each in results for call in self._calls(*each, requests.get(each[1].number, {}), found)]:
            self.store.server.run_many(calls)
        return found

    def _calls(self, result: Result, line: ChunkLine, request: dict[str, Any], found: Tally) -> Iterator[Call[Any]]:
        """The scripts that record one result. `request`: the line's body if its answer is checked against it."""
        attempt = self._attempt(line)
        keys, job = self.store.keys, attempt.job
        try:
            answer = self.api.answer(self.chunk.url, result)
        except ProviderError as error:
            error.usage = believed(attempt, error.usage)
            closing = outcomes.of_failure(attempt, error)
            if isinstance(error, Refused):
                fail = retry.Fail(error.code, error.message, error.status)
                outcome = outcomes.failed(attempt, error, fail, self.chunk.id)
                yield job_store.finish(keys, job, replace(outcome, settlement=self._part(line, closing)), calls=1)
                found.failed += 1
            elif closing.amount:
                yield job_store.settle_line(keys, job, self._part(line, closing), closing)
            found.cost += closing.amount
            return
        answer = replace(answer, usage=believed(attempt, answer.usage))
        closing = outcomes.of_answer(attempt, answer)
        saved = self._saved(attempt.estimate, answer, closing.amount)
        closing = replace(closing, columns={**closing.columns, "batch_calls": 1, "batch_saved": saved})
        found.cost += closing.amount
        found.saved += saved
        checked = checks.check(self.chunk.url, request, answer.body)
        outcome = outcomes.answered(attempt, answer, self.chunk.id, checked)
        outcome = replace(outcome, settlement=self._part(line, closing))
        if outcome.ok and not checked.is_right and self.workflow.on_invalid == "fail":
            outcome = outcomes.not_valid(outcome, checked)
        step = self._again(checked, line) if outcome.ok else None
        if (
            step is not None
        ):  # the line is still in the lane when all results are recorded, and goes live with this answer
            kept = keep(None, outcome, step, job.round, JobState(calls=1, counted_calls=1))
            yield job_store.keep_answer(keys, job, "", kept.encode(), outcome, calls=1)
            return
        yield job_store.finish(keys, job, outcome, calls=1)
        found.completed += outcome.ok
        found.failed += not outcome.ok

    def _again(self, checked: checks.Checked, line: ChunkLine) -> again.Again | None:
        """How the line asks for a further answer, if it does."""
        if checked.is_right or self.workflow.on_invalid != "retry":
            return None
        [(_, text)] = texts(self.batch, [line])
        each = line.output_ceiling // choices(self.chunk.url, jobs.decode(text)["body"])
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
