"""A worker that ends itself with SIGKILL at a point of the batch lane, before or after a step, or in its middle.

    DYING=FOLDER python -m tests.support.dying_worker -A workers worker …

A file of the folder that is named after a batch holds the points at which workers die in that batch, such as
`create:after`, one a line. The first worker that reaches the first of them takes it out and dies. With `DYING=never`
the worker leaves the batch lane to the others.

What a provider or a crash takes minutes for takes seconds here; tests/chaos/test_batch_lane.py has the real times.
"""

import os
import signal
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from tasks.batches import chunk_steps, going_live, offload, ticker
from tasks.batches.chunk import Chunk
from tasks.batches.chunk_journal import ChunkJournal
from tasks.batches.chunk_money import ChunkMoney
from tasks.batches.chunk_results import ChunkResults
from tasks.batches.chunk_steps import ChunkSteps
from tasks.batches.offload import Offload
from workers import celery_worker
from workers.providers.batch_anthropic import AnthropicBatches
from workers.providers.batch_api import ChunkFile
from workers.providers.batch_gemini import GeminiBatches
from workers.providers.batch_mistral import MistralBatches
from workers.providers.batch_openai import OpenAIBatches

#: Seconds until another worker takes the tick of one that died.
TICK_LEASE = 2.0

#: Seconds after which a create without an answer is given up, and within which it may be sent.
LOST_AFTER, FRESH = 5.0, 1.0

_APIS = (OpenAIBatches, AnthropicBatches, GeminiBatches, MistralBatches)
_current = ""


def reached(point: str) -> None:
    """Die if it is the next point of the batch that this worker is busy with."""
    path = Path(os.environ["DYING"], _current or "none")
    try:
        first, *rest = path.read_text().split()
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return
    if first != point:
        return
    taken = path.with_suffix(f".{os.getpid()}")
    path.rename(taken)  # of two workers, one
    if rest:
        taken.write_text("\n".join(rest))
        taken.rename(path)
    else:
        taken.unlink()
    os.kill(os.getpid(), signal.SIGKILL)


def step(owner: Any, name: str, point: str = "") -> None:
    """Let workers die before and after a function."""
    made = getattr(owner, name)
    point = point or name

    def stepped(*args: Any, **more: Any) -> Any:
        reached(f"{point}:before")
        found = made(*args, **more)
        reached(f"{point}:after")
        return found

    setattr(owner, name, stepped)


def in_the_middle(pieces: Iterable[bytes], point: str) -> Iterator[bytes]:
    """The pieces, the first in two parts: workers die between them."""
    for number, piece in enumerate(pieces):
        if not number:
            yield piece[: len(piece) // 2]
            reached(f"{point}:middle")
            piece = piece[len(piece) // 2 :]  # noqa: PLW2901 - the rest of it
        yield piece


def moves() -> None:
    """Let workers die around each step of the journal: `STATE:before`, `STATE:after`; `cancelling` is no state."""
    move = ChunkJournal.move

    def moved(self: ChunkJournal, chunk: Chunk, state: str = "", **changes: Any) -> Chunk:
        point = state if state != chunk.state else ""
        point = "cancelling" if "cancelled_at" in changes else point
        reached(f"{point}:before")
        found = move(self, chunk, state, **changes)
        reached(f"{point}:after")
        return found

    ChunkJournal.move = moved  # type: ignore[method-assign]


def transfers() -> None:
    """Let workers die while a file is on its way."""
    file = ChunkSteps.file

    def sent(self: ChunkSteps, chunk: Chunk) -> ChunkFile:
        found = file(self, chunk)
        return replace(found, read=lambda: in_the_middle(found.read(), "send"))

    ChunkSteps.file = sent  # type: ignore[method-assign]
    for api in _APIS:
        if "download" in vars(api):
            download: Callable[..., Iterator[bytes]] = api.download
            received = lambda *args, download=download: in_the_middle(download(*args), "receive")  # noqa: E731
            api.download = received  # type: ignore[method-assign]


def follow_batches() -> None:
    """Note which batch the batch lane is busy with: one at a time in a process."""
    run = Offload.run

    def followed(self: Offload) -> float | None:
        global _current  # noqa: PLW0603 - one thread runs the batch lane
        _current = self.batch.id
        return run(self)

    Offload.run = followed  # type: ignore[method-assign]


def stay_out() -> None:
    """Leave the batch lane to other workers."""
    look = ticker.Ticker.look
    ticker.Ticker.look = lambda self: 1.0 if self.name == "lane-ticker" else look(self)  # type: ignore[method-assign]


def main() -> None:
    """Run Celery's command line."""
    ticker.LEASE = TICK_LEASE
    for module in (chunk_steps, offload):
        module.AGAIN = 0.3  # type: ignore[attr-defined]
    chunk_steps.LOST_AFTER, chunk_steps.FRESH = LOST_AFTER, FRESH  # type: ignore[misc]
    AnthropicBatches.create_time = 1.0
    if os.environ["DYING"] == "never":
        stay_out()
    for name in ("divide", "go_live"):
        step(ChunkJournal, name)
    for name in ("hold", "sent", "leave_queue", "close"):
        step(ChunkMoney, name)
    step(ChunkResults, "record", "settle")
    step(going_live, "publish")
    moves()
    transfers()
    for api in _APIS:
        for name in ("upload", "create", "find", "get", "cancel", "remove"):
            if name in vars(api):
                step(api, name)
    follow_batches()
    celery_worker.main()


if __name__ == "__main__":
    main()
