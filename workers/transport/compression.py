"""Bounds on what a message may unpack to, for whatever reads messages with kombu: jobs, control, events, Flower.

kombu decompresses a message by its header before anything of it is looked at, and decodes its text by whatever codec
its content encoding names: a kilobyte could become a gigabyte.
"""

import bz2
import lzma
import zlib
from collections.abc import Callable
from typing import Any, Final, Protocol

import kombu.compression
import kombu.message
from kombu.exceptions import DecodeError

#: Bytes of a body, unpacked: the longest line that `overnight submit` takes, and room for what surrounds it.
MAX_BODY: Final = 64 << 20

#: Bytes of memory that an lzma stream may ask for; its writers' highest preset takes 65 MB.
_LZMA_MEMORY: Final = 100_000_000

#: How a body's text may be encoded: Python's other codecs can grow, too.
ENCODINGS: Final = frozenset({"utf-8", "us-ascii", "ascii", "binary"})


class _Decompressor(Protocol):
    @property
    def eof(self) -> bool:
        """Whether all of it was read."""

    def decompress(self, data: bytes, max_length: int, /) -> bytes:
        """The first bytes of what the data hold."""


def _bounded(make: Callable[[], _Decompressor]) -> Callable[[bytes], bytes]:
    def decompress(data: bytes) -> bytes:
        reader = make()
        found = reader.decompress(data, MAX_BODY + 1)
        if len(found) > MAX_BODY or not reader.eof:
            del found  # kombu keeps the error, which keeps what is named here
            raise DecodeError(f"its body unpacks to more than {MAX_BODY >> 20} MiB, or is cut off")
        return found

    return decompress


def _refuse(data: bytes) -> bytes:
    del data
    raise DecodeError("its compression is none of gzip, bzip2 and lzma")


_BOUNDED: Final = {
    "application/x-gzip": _bounded(zlib.decompressobj),
    "application/x-bz2": _bounded(bz2.BZ2Decompressor),
    "application/x-lzma": _bounded(lambda: lzma.LZMADecompressor(memlimit=_LZMA_MEMORY)),
}

_loads = kombu.message.loads


def is_plain(encoding: Any) -> bool:
    """Whether a content encoding is that of a text, which cannot grow."""
    return not encoding or (isinstance(encoding, str) and encoding in ENCODINGS)


def _checked_loads(data: Any, content_type: Any, content_encoding: Any, **options: Any) -> Any:
    if not is_plain(content_encoding):
        raise DecodeError(f"its content encoding is {str(content_encoding)[:100]!r}, not utf-8")
    return _loads(data, content_type, content_encoding, **options)


def bound() -> None:
    """Bound what kombu unpacks in this process."""
    decoders = kombu.compression._decoders  # noqa: SLF001 - it has no name for the list of them
    decoders.update({kind: _BOUNDED.get(kind, _refuse) for kind in decoders})
    kombu.message.loads = _checked_loads
