"""What a chunk takes of its provider's queue: tokens of its model, and requests and provider batches of its account.

The limits are those of the Batch API (workers/providers/batch_*.py), of the configuration, and those that were learned.
"""

from dataclasses import dataclass

from tasks.batches.batch_lane import BatchLane
from tasks.batches.chunk import Chunk


@dataclass(frozen=True, slots=True)
class Place:
    """What a chunk takes of one limit, of `limit` in all. `subject` names whose limit it is."""

    amount: int
    limit: int
    subject: str


def account_of(lane: BatchLane, chunk: Chunk) -> str:
    """The account whose queue it is: with `shared_quota`, all keys belong to one."""
    settings = lane.settings.providers.get(chunk.provider)
    return f"{chunk.provider}/0" if settings is not None and settings.shared_quota else chunk.account


def places(lane: BatchLane, chunk: Chunk) -> dict[str, Place]:
    """The chunk's places in the queue, by unit."""
    account = account_of(lane, chunk)
    found: dict[str, Place] = {}
    if (tokens := lane.enqueued_tokens(chunk.target)) is not None:
        found["tokens"] = Place(chunk.tokens, tokens, f"lane/{account}/{chunk.model}/tokens")
    api = lane.api(chunk.provider)
    settings = lane.settings.providers.get(chunk.provider)
    requests = settings.batch_queued_requests if settings is not None else None
    if (requests := requests or (api.limits.queued_requests if api is not None else None)) is not None:
        found["requests"] = Place(chunk.lines, requests, f"lane/{account}/requests")
    if api is not None and api.limits.jobs is not None:
        found["provider batches"] = Place(1, api.limits.jobs, f"lane/{account}/provider batches")
    return found
