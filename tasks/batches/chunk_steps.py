"""The steps of a chunk at its provider. Each is written into the journal before it is made.

`step` makes the next one and returns the chunk as it is then. A step that fails for a reason that passes is made again
after a while; a create that may have arrived is looked for in the provider's list first.
"""

import logging
import time
from collections.abc import Callable, Iterator
from typing import Final

from tasks.batches import chunk as chunks
from tasks.batches import takeover
from tasks.batches.batch import Batch
from tasks.batches.batch_lane import BatchLane
from tasks.batches.chunk import Chunk
from tasks.batches.chunk_journal import ChunkJournal, Superseded
from tasks.batches.chunk_money import ChunkMoney
from tasks.batches.files import files_of
from tasks.batches.provider_queue import Place, account_of, places
from tasks.batches.splitting import split
from tasks.batches.store import Store
from tasks.jobs.storage import CHUNK
from workers.config.settings import SettingsError
from workers.providers.batch_api import BatchApi, ChunkFile, ProviderBatch
from workers.providers.errors import AccountBlocked, ProviderError, Refused, TooLarge

log = logging.getLogger(__name__)

#: Seconds after a create without an answer until it counts as one that never arrived, if the list doesn't have it. The
#: request itself has ended long before, and a provider's list may lag behind.
LOST_AFTER: Final = 120.0

#: Seconds after it was written into the journal within which a create may be sent.
FRESH: Final = 20.0

#: Seconds after which a lost create is given up if the provider has no list: no provider batch takes longer.
UNKNOWN_FOR: Final = 25 * 3600.0

#: Seconds until a step that failed is made again.
AGAIN: Final = 10.0

#: Seconds between two tries to hold a chunk.
HOLD_AGAIN: Final = 5.0


class ChunkSteps:
    """The steps of one batch's chunks."""

    def __init__(self, store: Store, lane: BatchLane, batch: Batch) -> None:
        self.lane = lane
        self.batch = batch
        self.journal = ChunkJournal(store, batch.id)
        self.money = ChunkMoney(store, lane.settings, batch)

    def api(self, chunk: Chunk) -> tuple[BatchApi, str]:
        """The chunk's Batch API, and the key of its account. Raises AccountBlocked if one of them is not configured."""
        api = self.lane.api(chunk.provider) if chunk.provider in self.lane.settings.providers else None
        if api is None:
            raise AccountBlocked(f"provider {chunk.provider} has no Batch API any more", code="not_configured")
        try:
            return api, self.lane.settings.providers[chunk.provider].key(chunk.key)
        except SettingsError as missing:
            raise AccountBlocked(str(missing), code="not_configured") from None

    def file(self, chunk: Chunk) -> ChunkFile:
        """The chunk's file, as its Batch API takes it. Its create is sent only while it is this worker's to send."""
        files = files_of(self.batch)

        def read() -> Iterator[bytes]:
            with files.open(chunk.name("input")) as source:
                while found := source.read(CHUNK):
                    yield found

        return ChunkFile(
            chunk.id, chunk.model, chunk.url, chunk.lines, chunk.bytes, read, lambda: self.may_create(chunk)
        )

    def may_create(self, chunk: Chunk) -> bool:
        """Whether no other worker may have looked for this create yet, or made another."""
        now = self.journal.read(chunk)
        mine = now.state == chunks.CREATING and now.creates == chunk.creates
        return mine and time.time() - chunk.created_at <= FRESH

    def queue(self, chunk: Chunk) -> dict[str, Place]:
        """What the chunk takes of the provider's queue, by unit."""
        return places(self.lane, chunk)

    def step(self, chunk: Chunk) -> Chunk:
        """Make the chunk's next step at its provider."""
        try:
            return _STEPS[chunk.state](self, chunk)
        except (Refused, AccountBlocked) as error:
            if chunk.state in chunks.AWAY:
                return self._later(chunk, error)
            return self.refused(chunk, error)
        except ProviderError as error:
            return self._later(chunk, error)

    def refused(self, chunk: Chunk, error: ProviderError) -> Chunk:
        """The Batch API refuses this chunk: it goes live, and so do the next ones of its account and model."""
        if not isinstance(error, TooLarge):
            self.lane.refuse(f"{chunk.account}/{chunk.model}")
        found = self.journal.read(chunk)
        return self.give_up(found, f"its Batch API refused it: {error}", error.message)

    def give_up(self, chunk: Chunk, words: str, said: str = "") -> Chunk:
        """The chunk has no provider batch, or one in which nothing runs: its lines go live.

        `said`: the provider's own words, which may quote a line, and so are not logged.
        """
        log.warning("%s of batch %s goes live: %s", chunk.id, chunk.batch, words)
        trouble = f"{words}: {said}"[:300] if said else words
        return self.journal.move(chunk, chunks.RETURNING, file=0, place=0, trouble=trouble)

    def _later(self, chunk: Chunk, error: ProviderError) -> Chunk:
        wait = max(AGAIN, error.retry_after or 0.0)
        words = f"{error}: {error.message}"[:300]
        if chunk.trouble != words:
            log.warning("%s of batch %s waits: %s", chunk.id, chunk.batch, error)
        return self.journal.move(chunk, due=time.time() + wait, trouble=words)

    def hold(self, chunk: Chunk) -> Chunk:
        """Hold the chunk's money and its place in the queue."""
        if self.lane.is_refused(f"{chunk.account}/{chunk.model}"):
            return self.give_up(chunk, "its Batch API has refused a chunk lately")
        missing = self.money.hold(chunk, self.queue(chunk))
        if missing is None:
            return self.journal.move(chunk, chunks.HELD)
        if missing.halves and chunk.lines > 1:
            self.release(chunk)  # if a worker was killed before it gave back what the chunk had held
            return split(self.journal, self.batch, chunk)
        if missing.never:
            return self.give_up(chunk, missing.words)
        return self.journal.move(chunk, due=time.time() + HOLD_AGAIN, trouble=missing.words)

    def begin_upload(self, chunk: Chunk) -> Chunk:
        """Write into the journal that the file is uploaded, and upload it."""
        return self.upload(self.journal.move(chunk, chunks.UPLOADING))

    def upload(self, chunk: Chunk) -> Chunk:
        """Upload the chunk's file. A second copy after a crash costs nothing, and the provider deletes it in time."""
        api, key = self.api(chunk)
        file_id = api.upload(key, self.file(chunk))
        return self.journal.move(chunk, chunks.UPLOADED, file_id=file_id)

    def begin_create(self, chunk: Chunk) -> Chunk:
        """Write into the journal that a provider batch is created, and create it."""
        api, _ = self.api(chunk)
        most = api.limits.creates_an_hour
        if most is not None and (wait := self.money.may_create(chunk, account_of(self.lane, chunk), most)):
            words = f"its account may create {most:,} provider batches an hour"
            return self.journal.move(chunk, due=time.time() + wait, trouble=words)
        return self.create(self.journal.move(chunk, chunks.CREATING, created_at=time.time(), creates=chunk.creates + 1))

    def create(self, chunk: Chunk) -> Chunk:
        """Create the provider batch. Its money is never given back from here on without a word from the provider."""
        api, key = self.api(chunk)
        if not self.money.sent(chunk):
            return self.journal.move(
                chunk, chunks.CUT, trouble="what it held was given back: no worker has run for long"
            )
        try:
            made = api.create(key, chunk.file_id, self.file(chunk))
        except (Refused, AccountBlocked) as error:
            return self.refused(chunk, error)
        except ProviderError as error:
            if error.billed or (error.status is not None and not 400 <= error.status < 500):  # noqa: PLR2004
                return self._later(chunk, error)  # it may have arrived
            return self.journal.move(
                chunk, chunks.UPLOADED, due=time.time() + max(AGAIN, error.retry_after or 0.0), trouble=str(error)
            )
        try:
            return self.created(chunk, made)
        except Superseded:
            self._end_second(chunk, made)
            raise

    def _end_second(self, chunk: Chunk, made: ProviderBatch) -> None:
        """Cancel a provider batch that came too late: another worker has made one, or let the lines go live."""
        now = self.journal.read(chunk)
        if now.provider_batch == made.id or (now.state == chunks.CREATING and now.creates == chunk.creates):
            return
        log.error("%s has a second provider batch, %s: it is cancelled", chunk.id, made.id)
        api, key = self.api(chunk)
        api.cancel(key, made.id)

    def created(self, chunk: Chunk, made: ProviderBatch) -> Chunk:
        """Write down the provider batch's id."""
        poll = self.lane.settings.providers[chunk.provider].batch_poll
        return self.journal.move(
            chunk, chunks.RUNNING, provider_batch=made.id, provider_state=made.state, due=time.time() + min(1.0, poll)
        )

    def look_for(self, chunk: Chunk) -> Chunk:
        """A create has no answer: look for its provider batch, and create another only if the list doesn't have it."""
        api, key = self.api(chunk)
        found = api.find(key, chunk.file_id, self.file(chunk), chunk.created_at)
        if found is not None:
            return self.created(chunk, found)
        age = time.time() - chunk.created_at
        if api.lists and age > LOST_AFTER + api.create_time:
            if not takeover.has_time(self.batch, self.cancel_time(chunk), 0.0):
                return self.give_up(chunk, "no time was left for a provider batch")
            return self.begin_create(chunk)
        if not api.lists and age > UNKNOWN_FOR:
            return self.journal.move(chunk, chunks.RETURNING, abandoned=True, file=0, place=0)
        words = "a create had no answer: looking for its provider batch"
        return self.journal.move(chunk, due=time.time() + min(AGAIN, LOST_AFTER / 4), trouble=words)

    def cancel_time(self, chunk: Chunk) -> float:
        """Seconds that cancelling takes at most."""
        settings = self.lane.settings.providers.get(chunk.provider)
        learned = self.lane.times.cancelling(chunk.target)
        return max(settings.batch_cancel_time if settings is not None else 0.0, learned)

    def poll(self, chunk: Chunk) -> Chunk:
        """Look at the provider batch."""
        api, key = self.api(chunk)
        return self.seen(chunk, api.get(key, chunk.provider_batch))

    def seen(self, chunk: Chunk, now: ProviderBatch) -> Chunk:
        """What follows from the provider batch's state."""
        if now.phase == "ended":
            chunk = self.journal.move(chunk, chunks.FETCHING, provider_state=now.state, file=0, place=0)
            self.lane.times.ended(chunk, chunk.since)
            self.money.leave_queue(chunk, self.queue(chunk))
            return chunk
        if now.phase == "failed":
            return self._failed(chunk, now)
        poll = self.lane.settings.providers[chunk.provider].batch_poll
        return self.journal.move(chunk, provider_state=now.state, due=time.time() + poll, trouble="")

    def _failed(self, chunk: Chunk, now: ProviderBatch) -> Chunk:
        """A provider batch that failed as a whole ran none of its lines."""
        words = f"the provider batch failed: {now.code}"
        if now.enqueued_limit:
            self.lane.learn_enqueued_tokens(chunk.target, now.enqueued_limit)
        if not now.for_now or chunk.cancelled_at:
            return self.give_up(chunk, words, now.message)
        wait = self.lane.settings.providers[chunk.provider].batch_poll
        log.warning("%s of batch %s is created again later: %s", chunk.id, chunk.batch, words)
        chunk = self.journal.move(
            chunk,
            chunks.CUT,
            provider_batch="",
            provider_state=now.state,
            due=time.time() + wait,
            trouble=f"{words}: {now.message}"[:300],
        )
        # It is held again, at the limit as it is known now.
        self.release(chunk)
        return chunk

    def release(self, chunk: Chunk) -> None:
        """Give back everything that the chunk holds."""
        self.money.leave_queue(chunk, self.queue(chunk))
        self.money.close(chunk)

    def cancel(self, chunk: Chunk) -> Chunk:
        """Ask for the end of the provider batch, again at each look: a worker may be killed before it has asked."""
        if not chunk.cancelled_at:
            chunk = self.journal.move(chunk, cancelled_at=time.time())
        try:
            api, key = self.api(chunk)
            return self.seen(chunk, api.cancel(key, chunk.provider_batch))
        except ProviderError as error:
            return self._later(chunk, error)

    def delete_input(self, chunk: Chunk) -> None:
        """Delete the chunk's file at the provider. If that fails, it stays until the provider deletes it."""
        if not chunk.file_id:
            return
        try:
            api, key = self.api(chunk)
            api.remove(key, chunk.file_id)
        except ProviderError as error:
            log.info("the file of %s stays at its provider: %s", chunk.id, error)


_STEPS: Final[dict[str, Callable[[ChunkSteps, Chunk], Chunk]]] = {
    chunks.CUT: ChunkSteps.hold,
    chunks.HELD: ChunkSteps.begin_upload,
    chunks.UPLOADING: ChunkSteps.upload,
    chunks.UPLOADED: ChunkSteps.begin_create,
    chunks.CREATING: ChunkSteps.look_for,
    chunks.RUNNING: ChunkSteps.poll,
}
