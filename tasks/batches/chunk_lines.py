"""The lines of a chunk, in a file beside it: what their results are read against, and their places in the input."""

from collections.abc import Iterator, Sequence
from dataclasses import astuple, dataclass
from typing import IO

import orjson

from limits.counting import Estimate
from tasks.batches.batch import Batch
from tasks.batches.chunk import Chunk
from tasks.batches.files import INPUT, files_of
from tasks.batches.input import Place, text_of
from tasks.jobs.storage import CHUNK, StorageError


@dataclass(frozen=True, slots=True)
class ChunkLine:
    """One line: its number, name and place in the input, and what it holds (n$) by which estimate.

    `own_ceiling`: the line itself sets the ceiling of its answer. `asks`: its answer is checked against its request.
    `choices`: the answers that one call asks for; `output_ceiling` is over all of them.
    """

    number: int
    custom_id: str
    offset: int
    size: int
    held: int
    input: int
    input_ceiling: int
    output_ceiling: int
    media: bool
    own_ceiling: bool
    asks: bool = False
    choices: int = 1

    @property
    def estimate(self) -> Estimate:
        """The estimate that its results are checked against."""
        return Estimate(self.input, self.input_ceiling, self.output_ceiling, media=self.media)


def encode(line: ChunkLine) -> bytes:
    """A line as a row of the file."""
    return orjson.dumps(astuple(line)) + b"\n"


def save(batch: Batch, chunk: Chunk, content: IO[bytes], rows: IO[bytes]) -> None:
    """Save a chunk's two files: `content` is for the provider, `rows` are its lines as `encode` returns them."""
    files = files_of(batch)
    files.put(chunk.name("input"), lambda: _pieces(content))
    files.put(chunk.name("lines"), lambda: _pieces(rows))


def _pieces(file: IO[bytes]) -> Iterator[bytes]:
    file.seek(0)
    while found := file.read(CHUNK):
        yield found


def read_lines(batch: Batch, chunk: Chunk, place: int = 0) -> Iterator[tuple[ChunkLine, int]]:
    """The lines of a chunk from byte `place` of their file on, each with the byte at which the next begins."""
    with files_of(batch).open(chunk.name("lines")) as source:
        source.seek(place)
        for row in source:
            place += len(row)
            yield ChunkLine(*orjson.loads(row)), place


def texts(batch: Batch, lines: Sequence[ChunkLine | Place]) -> Iterator[tuple[int, bytes]]:
    """The JSON of some lines as the input has it, by number."""
    with files_of(batch).open(INPUT) as source:
        for line in lines:
            source.seek(line.offset)
            raw = source.read(line.size)
            if len(raw) != line.size:
                raise StorageError(f"line {line.number} of the input was changed")
            yield line.number, text_of(raw)
