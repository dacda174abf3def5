"""Ends the jobs that a cancelled or expired batch no longer runs.

No more lines are handed out, and workers drop those in the queue. Jobs in flight run to their ends, because their calls
are paid for; so do lines in the batch lane until their provider batches, which are cancelled, have ended
(tasks/batches/offload.py). Every other line ends here, in steps that the collector can keep up with: with the answer
that it keeps while it asks for another one, else with an error line.
"""

from tasks.agents import journal
from tasks.batches.batch import Batch
from tasks.batches.collect import end
from tasks.batches.feed import MAX_UNWRITTEN, STEP, lines_from
from tasks.batches.files import files_of
from tasks.batches.skipping import not_to_end
from tasks.batches.store import Store
from tasks.jobs import job as jobs
from tasks.jobs import kept
from tasks.jobs.job import Job
from tasks.jobs.proof import proof
from tasks.jobs.storage import StorageError
from tasks.jobs.store import Outcome
from workers.figures import dollars

#: The error of a line that is not run any more, by the batch's final status: code, and what happened.
STOPPED = {
    "cancelled": ("batch_cancelled", "the batch was cancelled"),
    "expired": ("batch_expired", "the batch's deadline passed"),
}


def close(store: Store, batch: Batch) -> None:
    """One tick: end the next lines that have not ended and are not in flight."""
    room = MAX_UNWRITTEN - store.waiting(batch.id)
    leased = store.leased(batch.id)
    if room <= 0 or batch.left <= len(leased) + batch.offloaded + batch.waiting_copies:
        return
    found: list[Job] = []
    try:
        ended = not_to_end(store, batch)
        for number, offset, text in lines_from(batch, batch.fed_offset, batch.fed_line):
            if text and number not in leased and number not in ended:
                read = jobs.decode(text)
                line = jobs.Line(read["custom_id"], read["url"], {})
                proved = proof(batch.token, number, batch.round)
                found.append(Job(line, "", batch.workflow, batch.id, number, batch.round, proof=proved))
            if len(found) == STEP:
                _end(store, batch, found)
                room -= STEP
                found = []
                if not store.fed(batch, offset, number, 0) or room <= 0:
                    return
                batch = store.batch(batch.id) or batch
    except StorageError as exc:
        if not exc.missing or not files_of(batch).exists(""):
            raise
        give_up(store, batch, f"{exc}: {batch.left:,} jobs have no line in the results")
        return
    _end(store, batch, found)
    # Start over at line 1: a job that was in flight just now may have gone back to its queue.
    store.fed(batch, 0, 0, 0)


def _end(store: Store, batch: Batch, found: list[Job]) -> None:
    """End these jobs. Each error line reports what the job's calls have cost, which the batch has counted already."""
    if not found:
        return
    code, happened = STOPPED[batch.stopping]
    numbers = [job.number for job in found]
    spent, answers = store.spent(batch.id, numbers), store.kept(batch.id, numbers)
    agents = journal.spent(store.client, store.keys, [job for job in found if job.line.agent])
    steps: list[tuple[Job, Outcome]] = []
    for job in found:
        cost, calls = agents.get(job.number, (0, 0))
        cost += spent.get(job.number, 0)
        words = f"{happened} before this job ran"
        if calls:
            many = "s" if calls > 1 else ""
            words = f"{happened} while this job waited (after {calls} call{many}, {dollars(cost)})"
        elif cost:
            words = f"{happened} while this job waited (its failed attempts cost {dollars(cost)})"
        outcome = Outcome.error(job, code, words, cost=cost, counted=cost)
        steps.append((job, kept.instead_of(outcome, answers.get(job.number), job.round)))
    store.finish_many(steps)


def give_up(store: Store, batch: Batch, words: str) -> None:
    """End a stopped batch whose input is gone for good, after all its results are written."""
    if store.leased(batch.id) or store.waiting(batch.id) or batch.plan:
        return
    end(store, batch, files_of(batch), "failed", words)
