"""What every Batch API offers to the rest of Overnight: limits, upload, create, list and match, get, cancel, results.

No provider makes creating idempotent. So `create` marks the provider batch with the chunk's id, and `find` looks for
the mark in the provider's list: after a crash or a lost response the caller looks before it creates again.

Methods block, and raise a ProviderError for everything that is not an answer. Nothing is retried here. Any method may
raise `NoBatchApi` or `NotAllowed`, and `find` raises `NotListed`.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from workers.providers.answer import Answer
from workers.providers.errors import CallFailed, Refused

#: What a provider batch's state means: it runs (or waits to), it has ended and its results are ready, or it failed as a
#: whole, before any of its lines was run.
Phase = Literal["running", "ended", "failed"]


class NoBatchApi(Refused):
    """There is no Batch API at this address."""


class NotAllowed(Refused):
    """The key may not use the Batch API, though it may be good for live calls."""


class NotListed(CallFailed):
    """The provider's list does not say whether a chunk has a provider batch: look again later, and create none."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What one provider batch may hold, and what an account may have in the queue. None: no limit is known.

    - `requests`, `bytes`: of one input file; `line_bytes`: of one of its lines.
    - `jobs`, `queued_requests`: provider batches, and lines in them, that have not ended.
    - `creates_an_hour`: provider batches that an account may create.
    - `embedded`: texts in the lines of one input file, if they are for embeddings.
    """

    requests: int
    bytes: int
    jobs: int | None = None
    queued_requests: int | None = None
    line_bytes: int | None = None
    creates_an_hour: int | None = None
    embedded: int | None = None


@dataclass(frozen=True, slots=True)
class ChunkFile:
    """A chunk's lines, as `BatchApi.encode` has written them.

    - `chunk`: the chunk's id; `model`, `url`: those of every line.
    - `lines`, `size`: how many there are, and their bytes.
    - `read`: opens them from the beginning; it may be called again.
    - `may_create`: asked right before a create is written to its connection; if it returns False, nothing is sent.
    """

    chunk: str
    model: str
    url: str
    lines: int
    size: int
    read: Callable[[], Iterable[bytes]]
    may_create: Callable[[], bool] = lambda: True


@dataclass(frozen=True, slots=True)
class ProviderBatch:
    """A provider batch as its provider describes it.

    - `state`: the provider's own word; `phase`: what it means.
    - `files`: where its results are: of the lines that succeeded, and of the others. Either may be missing.
    - `code`, `message`: why it failed as a whole.
    - `enqueued_limit`: the tokens that the account may have in the queue, if it failed for more; 0 if it didn't say.
    - `for_now`: it failed for a reason that passes, such as the queue's limit.
    - `finished`: its lines that have ended, whatever came of them; None if the provider doesn't say. Only to be shown:
      the figure may be out of date.
    """

    id: str
    state: str
    phase: Phase
    files: tuple[str, ...] = ()
    code: str = ""
    message: str = ""
    enqueued_limit: int | None = None
    for_now: bool = False
    finished: int | None = None


@dataclass(frozen=True, slots=True)
class Result:
    """The result of one line. `status` is None if the line was not run: it expired, or was cancelled.

    `content`: the JSON of the answer, or of the provider's error.
    """

    custom_id: str
    status: int | None
    content: bytes = b""
    request_id: str | None = None


class BatchApi(ABC):
    """The Batch API of one provider."""

    urls: ClassVar[frozenset[str]]
    """The urls of lines that it takes."""
    limits: Limits
    lists: ClassVar[bool] = True
    """Whether `find` sees every provider batch that was created. If not, a lost create looks like none."""
    create_time: ClassVar[float] = 0.0
    """Seconds that the lines of a chunk take at most on their way, if they travel with the create itself."""

    @abstractmethod
    def check(self, key: str) -> None:
        """Ask for the list of provider batches: raises what forbids the key to use the Batch API. Creates nothing."""

    @abstractmethod
    def encode(self, custom_id: str, url: str, body: dict[str, Any]) -> bytes | None:
        """A line of the input file, with its line end; None if the Batch API cannot carry it."""

    @abstractmethod
    def upload(self, key: str, file: ChunkFile) -> str:
        """Upload an input file, named by its chunk; returns its id. May be repeated. '' if lines go with the create."""

    @abstractmethod
    def create(self, key: str, file_id: str, file: ChunkFile) -> ProviderBatch:
        """Create the provider batch of a chunk. Never repeat it before `find` has looked.

        An error with `billed`, or a 5xx, may have created it. Raises Interrupted if `file.may_create` forbids it.
        """

    @abstractmethod
    def find(self, key: str, file_id: str, file: ChunkFile, since: float = 0.0) -> ProviderBatch | None:
        """The provider batch of a chunk, from the provider's list; None if it isn't there.

        `since`: when the create was sent, in seconds since the epoch; older provider batches are not looked at.
        """

    @abstractmethod
    def get(self, key: str, batch_id: str) -> ProviderBatch:
        """A provider batch as of now."""

    @abstractmethod
    def cancel(self, key: str, batch_id: str) -> ProviderBatch:
        """Ask for the end of a provider batch. Has no effect on one that has ended."""

    @abstractmethod
    def download(self, key: str, file_id: str) -> Iterator[bytes]:
        """The bytes of a result file, in pieces."""

    @abstractmethod
    def remove(self, key: str, file_id: str) -> None:
        """Delete a file at the provider. Has no effect if it is gone."""

    @abstractmethod
    def close(self) -> None:
        """Close its connections; the next request opens new ones."""

    @abstractmethod
    def read(self, line: bytes) -> Result | None:
        """A line of a result file; None if it cannot be read."""

    @abstractmethod
    def answer(self, url: str, result: Result) -> Answer:
        """The answer in a result. Raises the ProviderError that it is otherwise, as a live call would."""
