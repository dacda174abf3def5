"""Ends the jobs that a cancelled or expired batch no longer runs.

Nothing more is handed out, and deliveries that come from the queue now are dropped. Jobs in flight end by
themselves: their calls are being paid for. For every other line, the error line that says so is written here, as
many at a time as the collector can take.
"""

from tasks.agents import journal
from tasks.batches.batch import Batch
from tasks.batches.collect import end
from tasks.batches.feed import MOST_WAITING, STEP, lines_from
from tasks.batches.files import files_of
from tasks.batches.store import Store
from tasks.jobs import job as jobs
from tasks.jobs.job import Job
from tasks.jobs.proof import proof
from tasks.jobs.storage import StorageError
from tasks.jobs.store import Outcome
from workers.figures import dollars

#: The error that a line gets which its batch no longer runs: code, and what happened.
STOPPED = {
    "cancelled": ("batch_cancelled", "the batch was cancelled"),
    "expired": ("batch_expired", "the batch's deadline passed"),
}


def close(store: Store, batch: Batch) -> None:
    """One tick: end the next lines that neither have ended nor are in flight."""
    room = MOST_WAITING - store.waiting(batch.id)
    leased = store.leased(batch.id)
    if room <= 0 or batch.left <= len(leased):
        return
    ended = store.ended_lines(batch.id)
    found: list[Job] = []
    try:
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
    # From the beginning again, for what was in flight just now and may have been given up meanwhile.
    store.fed(batch, 0, 0, 0)


def _end(store: Store, batch: Batch, found: list[Job]) -> None:
    """End these jobs; each says what its calls have cost before it stopped to wait. The batch has counted that."""
    if not found:
        return
    code, happened = STOPPED[batch.stopping]
    spent = store.spent(batch.id, [job.number for job in found])
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
        steps.append((job, Outcome.error(job, code, words, cost=cost, counted=cost)))
    store.finish_many(steps)


def give_up(store: Store, batch: Batch, words: str) -> None:
    """End a stopped batch whose input is gone for good, once all that has come in is written."""
    if store.leased(batch.id) or store.waiting(batch.id) or batch.plan:
        return
    end(store, batch, files_of(batch), "failed", words)
