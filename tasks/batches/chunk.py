"""A chunk: lines of one batch that travel together in the batch lane, and how far they have come.

    cut ─► held ─► uploading ─► uploaded ─► creating ─► running ─► fetching ─► recording ─► returning ─► closed
     └───────┴──────────┴───────────┴──── no time, no money, refused ─────────────────────────►┘

Each state is written into the journal before its step is made (chunk_journal.py), so a worker that finds it knows what
may have happened:

    cut        its lines are taken and its file is in storage; money and a place in the provider's queue are missing
    held       its highest cost is held; nothing was sent
    uploading  its file may be at the provider, perhaps several times
    uploaded   `file_id` is at the provider
    creating   a provider batch may exist: the provider's list is read before another is created
    running    `provider_batch` exists and has not ended; with `cancelled_at`, cancelling was asked for
    fetching   the provider batch has ended; its results are copied to storage
    recording  the results are in storage, and are recorded line by line
    returning  lines without a result go back to be called live
    closed     what it held is given back
"""

from dataclasses import asdict, dataclass, fields
from typing import Any, Final

import orjson

from limits.budget import NANO

CUT, HELD, UPLOADING, UPLOADED, CREATING = "cut", "held", "uploading", "uploaded", "creating"
RUNNING, FETCHING, RECORDING, RETURNING, CLOSED = "running", "fetching", "recording", "returning", "closed"

#: States in which no provider batch exists: its lines may go live at once.
UNSENT: Final = frozenset({CUT, HELD, UPLOADING, UPLOADED})

#: States in which its lines may still be in a provider batch that has not ended.
AWAY: Final = frozenset({CREATING, RUNNING})


@dataclass(frozen=True, slots=True)
class Chunk:
    """A chunk's entry in the journal. Times are in seconds since the epoch, money is in n$.

    - `number` counts the chunks of the batch; `key` is the number of the provider's key.
    - `first` is its first line; `tokens` are its input tokens, as estimated.
    - `held` is its highest cost at batch prices; `held_row` its row in the ledger.
    - `since` is when its state began, `due` when it is looked at again.
    - `created_at` is when a create was last written into the journal, `creates` how often.
    - `provider_state` is the provider batch's state, in the provider's own word.
    - `cancelled_at` is when cancelling was asked for; `abandoned`: its lines went live before it has ended.
    - `files` is the number of its result files. `file` and `place` are how far recording has come in them, or returning
      in the file of its lines: a byte.
    - `completed`, `failed` and `returned` lines, and `unreadable` results; `cost` of its results; `saved` against the
      live price.
    - `trouble`: why it makes no progress, or why its lines went live.
    """

    id: str
    batch: str
    number: int
    round: int
    provider: str
    model: str
    key: int
    url: str
    lines: int
    first: int
    last: int
    bytes: int
    tokens: int
    held: int
    held_row: str
    state: str = CUT
    since: float = 0.0
    due: float = 0.0
    file_id: str = ""
    provider_batch: str = ""
    provider_state: str = ""
    created_at: float = 0.0
    creates: int = 0
    cancelled_at: float = 0.0
    abandoned: bool = False
    files: int = 0
    file: int = 0
    place: int = 0
    completed: int = 0
    failed: int = 0
    returned: int = 0
    unreadable: int = 0
    cost: int = 0
    saved: int = 0
    trouble: str = ""
    version: int = 0

    @property
    def target(self) -> str:
        """The target that answers its lines: `provider/model`."""
        return f"{self.provider}/{self.model}"

    @property
    def account(self) -> str:
        """The account that pays for it."""
        return f"{self.provider}/{self.key}"

    @property
    def left(self) -> int:
        """Lines that have neither a result nor gone live."""
        return 0 if self.state == CLOSED else max(0, self.lines - self.completed - self.failed - self.returned)

    @property
    def holds(self) -> bool:
        """Whether it holds money and a place in the provider's queue."""
        return self.state not in {CUT, CLOSED}

    def name(self, kind: str) -> str:
        """The name of one of its files in the batch's folder: input, lines, or results0 and results1."""
        return f"chunks/{self.id}.{kind}.jsonl"

    def shown(self) -> dict[str, Any]:
        """As `overnight status --json` prints it."""
        return {
            "id": self.id,
            "target": self.target,
            "url": self.url,
            "state": self.state,
            "provider_batch_id": self.provider_batch or None,
            "provider_state": self.provider_state or None,
            "request_counts": {
                "total": self.lines,
                "completed": self.completed,
                "failed": self.failed,
                "went_live": self.returned,
            },
            "held_usd": self.held / NANO if self.holds else 0.0,
            "cost_usd": self.cost / NANO,
            "saved_usd": self.saved / NANO,
            "trouble": self.trouble or None,
        }


_FIELDS: Final = frozenset(each.name for each in fields(Chunk))


def decode(raw: bytes) -> Chunk:
    """Read an entry of the journal; fields that another version has added are ignored."""
    return Chunk(**{name: value for name, value in orjson.loads(raw).items() if name in _FIELDS})


def encode(chunk: Chunk) -> bytes:
    """A chunk as an entry of the journal."""
    return orjson.dumps(asdict(chunk))
