"""A worker for bench/lanes.py and cache.py, where a second stands for minutes: `python -m bench.compressed_worker …`.

A takeover counts on the live calls a second that this machine can make beside the rest: compressed like the other times,
the real figure would be far more than that. Chunks are smaller, so that there are more provider batches whose times can
differ. There is no limit of creates an hour, because here an hour takes seconds.
"""

import os
from dataclasses import replace

from tasks.batches import batch_lane, chunk_steps, cutting, takeover
from tasks.jobs import warming
from workers import celery_worker
from workers.providers.batch_openai import OpenAIBatches

#: Live calls a second.
PACE = 300.0

#: How many seconds one second stands for in bench/cache.py.
CACHE_SCALE = float(os.environ.get("CACHE_SCALE", "1"))


def compress(chunk_lines: int = 0) -> None:
    """Set this process up; 0 leaves chunks as they are."""
    takeover.PACE = PACE  # type: ignore[misc]
    OpenAIBatches.limits = replace(OpenAIBatches.limits, creates_an_hour=None)
    chunk_steps.HOLD_AGAIN = 0.5  # type: ignore[misc]
    for name in ("WARM", "HOLD", "POLL"):
        setattr(warming, name, max(0.01, getattr(warming, name) / CACHE_SCALE))
    if chunk_lines:
        for module in (batch_lane, cutting):
            module.MAX_LINES = chunk_lines  # type: ignore[attr-defined]


if __name__ == "__main__":
    compress(int(os.environ.get("CHUNK_LINES", "0")))
    celery_worker.main()
