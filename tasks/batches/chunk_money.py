"""What a chunk holds: its highest cost in the budgets of its workflow, and its place in the provider's queue.

Both are reservations of the shared admission. The money's becomes `sent` right before a provider batch is created: if
every worker dies, the lease ends, and what has no result counts as spent. A place in the queue is a budget of another
unit (tokens, requests, provider batches): held until the provider batch has ended, and never spent.
"""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from limits.admission import admit, release, renew, sent, settle
from limits.bucket import Quota
from limits.budget import BudgetWindow
from limits.reservation import Admitted, Answer, Ask, Candidate, Charge, Denied, Impossible, Settlement
from limits.snapshot import snapshot
from tasks.batches.batch import Batch
from tasks.batches.chunk import Chunk
from tasks.batches.provider_queue import Place
from tasks.batches.store import Store
from workers.config.settings import Settings
from workers.models import budgets

#: Seconds that a chunk keeps what it holds after the last worker has looked at it.
LEASE: Final = 6 * 3600.0

#: What a create takes of the limit of creates.
_ONE: Final = {"rpm": 1}

#: Seconds' worth of creates that may be made at once. With the part of the rate that is used, no hour has too many.
_AT_ONCE: Final = 30.0

#: Seconds until a create is tried again if the admission names no time.
_CREATE_AGAIN: Final = 60.0

#: The window of a queue's limits: a queue has no days.
_QUEUE: Final = "queue"


@dataclass(frozen=True, slots=True)
class Missing:
    """Why a chunk cannot be held now; `never`: waiting will not help; `halves`: half of it would fit."""

    words: str
    never: bool
    halves: bool = False


class ChunkMoney:
    """Holds and gives back for the chunks of one batch. A chunk's reservations belong to the chunk, not to a worker."""

    def __init__(self, store: Store, settings: Settings, batch: Batch) -> None:
        self.store = store
        self.settings = settings
        self.batch = batch

    def hold(self, chunk: Chunk, queue: Mapping[str, Place]) -> Missing | None:
        """Hold everything, or nothing. Returns what is missing; None if it is held. `queue`: its places by unit."""
        taken: list[str] = []
        asks: list[tuple[str, int, tuple[BudgetWindow, ...], str, str]] = [
            (
                f"{chunk.id}:{unit}",
                place.amount,
                (BudgetWindow(place.subject, place.limit, _QUEUE),),
                "",
                f"the provider's queue has no room for its {place.amount:,} {unit}: {place.limit:,} may be in it",
            )
            for unit, place in queue.items()
        ]
        over = budgets.windows(self.settings, self.batch.workflow, self.batch.id, time.time())
        asks.append((chunk.id, chunk.held, over, chunk.held_row, "no budget can hold its highest cost now"))
        for name, amount, windows, row, words in asks:
            candidate = Candidate(
                f"batch:{chunk.target}", chunk.account, (), amount, row, f"{chunk.account}/{chunk.model}"
            )
            ask = Ask(name, chunk.id, (candidate,), windows, max_wait=0.0, lease=LEASE)
            answer = self.store.server.run(admit(self.store.keys, ask))
            if isinstance(answer, Admitted):
                taken.append(name)
                continue
            self._release(taken, chunk)
            if isinstance(answer, Denied) and answer.reason == "latch":
                return Missing(f"account {answer.subject} is blocked", never=False)
            never = not isinstance(answer, Denied) or answer.retry_in is None
            return Missing(words, never, halves=self._halves(answer, amount, windows))
        return None

    def _halves(self, answer: Answer, amount: int, windows: tuple[BudgetWindow, ...]) -> bool:
        """Whether half of a chunk would fit: it is larger than the limit itself, or than what was not spent of it."""
        if isinstance(answer, Impossible):
            return True
        if not isinstance(answer, Denied) or answer.reason != "budget":
            return False
        found = self.store.server.run(snapshot(self.store.keys, budgets=windows)).budgets
        return all(amount // 2 <= each.limit - each.spent - each.held for each in found)

    def sent(self, chunk: Chunk) -> bool:
        """Mark its money as sent: from now on it is not given back without a word from the provider."""
        return self.store.server.run(sent(self.store.keys, chunk.id, chunk.id)).verdict == "sent"

    def may_create(self, chunk: Chunk, account: str, per_hour: int) -> float:
        """Count a create: an account may make `per_hour` an hour. Returns the seconds to wait; 0.0 if it may.

        All but the first few are spread over the hour, since it is not known when the provider's begins.
        """
        quota = Quota(rpm=max(1, per_hour // 60), burst=_AT_ONCE)
        candidate = Candidate(f"batch:{chunk.target}", chunk.account, (Charge(f"lane/{account}/creates", quota, _ONE),))
        ask = Ask(f"{chunk.id}:create:{chunk.creates}", chunk.id, (candidate,), max_wait=0.0, send_at_once=True)
        answer = self.store.server.run(admit(self.store.keys, ask))
        if isinstance(answer, Denied):
            return answer.retry_in or _CREATE_AGAIN
        self.store.server.run(settle(self.store.keys, ask.id, chunk.id, Settlement(outcome="neutral")))
        return 0.0

    def renew(self, chunk: Chunk, queue: Mapping[str, Place]) -> None:
        """Hold everything for another `LEASE`."""
        names = [chunk.id, *(f"{chunk.id}:{name}" for name in queue)]
        self.store.server.run(renew(self.store.keys, names, chunk.id, LEASE))

    def leave_queue(self, chunk: Chunk, queue: Mapping[str, Place]) -> None:
        """Give back its place in the provider's queue."""
        self._release([f"{chunk.id}:{name}" for name in queue], chunk)

    def close(self, chunk: Chunk) -> None:
        """Give back the money that no line has settled. Results that could not be read count as spent."""
        if chunk.unreadable:
            presumed = chunk.held * min(chunk.unreadable, chunk.lines) // chunk.lines
            closing = Settlement(presumed, outcome="neutral", failed=True, presumed=True)
            self.store.server.run(settle(self.store.keys, chunk.id, chunk.id, closing))
        self._release([chunk.id], chunk)
        self.store.client.delete(self.store.keys.parts(chunk.id))

    def _release(self, names: list[str], chunk: Chunk) -> None:
        for name in names:
            self.store.server.run(release(self.store.keys, name, chunk.id))
