"""Batches that come over HTTP: accepted at once, checked by a worker, and from then on like any other.

A batch is accepted as `validating`, with a tick in the batch lane's set. Whichever worker takes that tick checks the
input (validation.py). So a batch that was accepted survives the server that has accepted it.
"""

import hashlib
import time
from dataclasses import asdict, dataclass, field
from typing import Any, Final
from uuid import uuid4

import orjson

from limits.client.scripts import Call, load
from tasks.batches.batch import Batch, to_hash
from tasks.batches.store import Store, lifetime
from tasks.batches.uploads import KEEP_LISTS

#: What the tick that checks a batch's input is called, before the batch's id.
VALIDATE: Final = "validate"


@dataclass(frozen=True, slots=True)
class BatchRequest:
    """What a client asked for. `output_expires_after`: seconds from the batch's end, 0 for never."""

    input_file_id: str
    endpoint: str
    completion_window: str
    metadata: dict[str, str] = field(default_factory=dict)
    output_expires_after: int = 0

    def encoded(self) -> str:
        """As the batch's record keeps it."""
        return orjson.dumps(asdict(self)).decode()


def request_of(batch: Batch) -> BatchRequest | None:
    """What a client asked for; None if the batch did not come over HTTP."""
    if not batch.request:
        return None
    found: dict[str, Any] = orjson.loads(batch.request)
    return BatchRequest(**found)


def batch_id(client: str, once: str = "") -> str:
    """The id of a new batch. `once`: with the same words, a client gets the same id again."""
    identity = hashlib.sha256(f"{client}\n{once}".encode()).hexdigest() if once else uuid4().hex
    return f"batch_{identity[:24]}"


def accept(
    store: Store, request: BatchRequest, *, batch_id: str, client: str, workflow: str, name: str, seconds: float
) -> Batch:
    """Accept a batch of a client, due in `seconds`; returns it, or the one that exists with this id."""
    now = time.time()
    batch = Batch(
        id=batch_id,
        workflow=workflow,
        name=name,
        status="validating",
        total=0,
        bytes=0,
        storage=store.storage or "",
        created=now,
        deadline=now + seconds,
        client=client,
        request=request.encoded(),
    )
    keys, record = store.keys, [part for item in to_hash(batch).items() for part in item]
    names = (keys.batch(batch.id), keys.batches, keys.client_batches(client), store.lane_ticks.due)
    tick = f"{VALIDATE}:{batch.id}"
    args: tuple[str | int, ...] = (batch.id, repr(now), "", lifetime(batch.deadline), KEEP_LISTS, tick, *record)
    made = store.server.run(Call(load("tasks/batches/lua/accept.lua"), names, args, bool))
    return batch if made else store.batch(batch.id) or batch
