"""Checks of a chunk's answers, as live answers are checked. A line's request is read from the input only if needed."""

import asyncio
from collections.abc import Sequence

from tasks.answers import checks, own
from tasks.answers.checks import Checked
from tasks.answers.own import GivenAnswer
from tasks.batches.batch import Batch
from tasks.batches.chunk import Chunk
from tasks.batches.chunk_lines import ChunkLine, texts
from tasks.jobs import job as jobs
from workers.config.settings import Settings
from workers.pool.threads import Loop
from workers.providers.answer import Answer


def check_all(
    settings: Settings, batch: Batch, chunk: Chunk, answers: Sequence[tuple[ChunkLine, Answer]]
) -> dict[int, Checked]:
    """The result of each line's check, by the line's number."""
    own_check = settings.workflow(batch.workflow).check
    asking = [line for line, _ in answers if line.asks or own_check is not None]
    requests = {number: jobs.decode(text)["body"] for number, text in texts(batch, asking)} if asking else {}
    found = {
        line.number: checks.check(chunk.url, requests.get(line.number, {}), answer.body) for line, answer in answers
    }
    if own_check is None:
        return found
    given = {
        line.number: GivenAnswer(line.custom_id, chunk.url, requests[line.number], answer.body)
        for line, answer in answers
        if found[line.number].is_right
    }
    told = _run(own_check, settings, list(given.values()))
    return found | {number: each for number, each in zip(given, told, strict=True) if each != checks.VALID}


def _run(check: str, settings: Settings, given: Sequence[GivenAnswer]) -> list[Checked]:
    """Run a workflow's own check on many answers, on an event loop of their own."""

    async def everything() -> list[Checked]:
        return await asyncio.gather(*(own.run(check, settings, each) for each in given))

    with asyncio.Runner(loop_factory=Loop) as runner:
        return runner.run(everything())
