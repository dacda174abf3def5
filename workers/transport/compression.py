"""Bounds what a message may unpack to, for everything that reads messages with kombu: jobs, control, events, Flower.

kombu decompresses a message as its header says before any check, and decodes its text with any codec that its content
encoding names: a kilobyte could become a gigabyte.
"""

import bz2
import lzma
import zlib
from collections.abc import Callable
from typing import Any, Final, Protocol

import kombu.compression
import kombu.message
from kombu.exceptions import DecodeError

#: Bytes of an unpacked body: the longest line that `overnight submit` takes, and room for the rest of the message.
MAX_BODY: Final = 64 << 20

#: Bytes of memory that an lzma stream may need; the highest preset needs 65 MB.
_LZMA_MEMORY: Final = 100_000_000

#: Encodings of a body's text: some of Python's other codecs decompress, too.
ENCODINGS: Final = frozenset({"utf-8", "us-ascii", "ascii", "binary"})


class _Decompressor(Protocol):
    @property
    def eof(self) -> bool:
        """Whether the whole stream was read."""

    def decompress(self, data: bytes, max_length: int, /) -> bytes:
        """Decompress up to `max_length` bytes."""


def _bounded(make: Callable[[], _Decompressor]) -> Callable[[bytes], bytes]:
    def decompress(data: bytes) -> bytes:
        reader = make()
        found = reader.decompress(data, MAX_BODY + 1)
        if len(found) > MAX_BODY or not reader.eof:
            del found  # kombu keeps the error, whose traceback keeps local variables
            raise DecodeError(f"its body unpacks to more than {MAX_BODY >> 20} MiB, or is truncated")
        return found

    return decompress


def _refuse(data: bytes) -> bytes:
    del data
    raise DecodeError("its compression is not gzip, bzip2 or lzma")


_BOUNDED: Final = {
    "application/x-gzip": _bounded(zlib.decompressobj),
    "application/x-bz2": _bounded(bz2.BZ2Decompressor),
    "application/x-lzma": _bounded(lambda: lzma.LZMADecompressor(memlimit=_LZMA_MEMORY)),
}

_loads = kombu.message.loads


def is_plain(encoding: Any) -> bool:
    """Whether a content encoding is a plain text encoding, which cannot decompress anything."""
    return not encoding or (isinstance(encoding, str) and encoding in ENCODINGS)


def _checked_loads(data: Any, content_type: Any, content_encoding: Any, **options: Any) -> Any:
    if not is_plain(content_encoding):
        raise DecodeError(f"its content encoding is {str(content_encoding)[:100]!r}, not utf-8")
    return _loads(data, content_type, content_encoding, **options)


def bound() -> None:
    """Bound what kombu unpacks in this process."""
    decoders = kombu.compression._decoders  # noqa: SLF001 - it has no public name for them
    decoders.update({kind: _BOUNDED.get(kind, _refuse) for kind in decoders})
    kombu.message.loads = _checked_loads
