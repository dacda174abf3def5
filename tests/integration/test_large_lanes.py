"""`make bench-lanes-scale` at a twentieth of its size: memory stays flat, and chunks are within every limit."""

import pytest

from bench.lanes_scale import measured, within_limits

LINES, TOKENS = 50_000, 400_000

#: MB of Redis at most, whatever the number of lines.
MOST_REDIS = 60

#: MB that a worker may grow by between a tenth and nine tenths of the lines.
GROWTH = 25


@pytest.mark.long
@pytest.mark.timeout(900)
def test_a_large_batch_takes_constant_memory_and_keeps_every_limit() -> None:
    run = measured(LINES, TOKENS, delay=1.0)
    assert (run.completed, run.output) == (LINES, LINES)
    assert sum(chunk.completed for chunk in run.chunks) == LINES, "each went through the batch lane"
    assert len(run.chunks) >= 5, "the queue's limit cuts them"
    assert within_limits(run)
    assert run.redis_peak <= MOST_REDIS
    early, late = run.at(0.1), run.at(0.9)
    assert max(after - before for before, after in zip(early.workers, late.workers, strict=True)) <= GROWTH
