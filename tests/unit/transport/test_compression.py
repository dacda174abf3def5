"""What a message may unpack to is bounded, for everything that reads messages with kombu."""

import bz2
import lzma
import resource
import zlib
from collections.abc import Callable

import pytest
from kombu.compression import _decoders, decompress
from kombu.exceptions import DecodeError
from kombu.message import Message

import workers.celery  # noqa: F401 - as in every process that reads messages
from tasks.batches.input import MAX_LINE
from workers.transport import compression
from workers.transport.broker import MAX_MESSAGE

MAKERS: dict[str, Callable[[bytes], bytes]] = {"gzip": zlib.compress, "bzip2": bz2.compress, "lzma": lzma.compress}


def test_a_decompression_bomb_is_refused() -> None:
    made, piece = zlib.compressobj(1), bytes(10 << 20)
    packed = b"".join(made.compress(piece) for _ in range(40)) + made.flush()  # 400 MB
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    message = Message(packed, headers={"compression": "zlib"}, content_type="application/json")
    assert isinstance(message.errors[0][1], DecodeError)
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert grown < 200_000, f"{grown} kB more"


@pytest.mark.parametrize("kind", MAKERS)
def test_a_body_is_unpacked_up_to_its_bound(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    pack = MAKERS[kind]
    text = b"[[], {}, {}]" * 1000
    assert decompress(pack(text), kind) == text
    monkeypatch.setattr(compression, "MAX_BODY", 1_000_000)
    assert len(decompress(pack(bytes(1_000_000)), kind)) == 1_000_000
    for packed in (pack(bytes(1_000_001)), pack(bytes(50_000_000)), pack(text)[:-9]):
        with pytest.raises(DecodeError):
            decompress(packed, kind)


def test_the_longest_line_fits() -> None:
    around = 1 << 20
    assert MAX_LINE + around <= compression.MAX_BODY
    assert (MAX_LINE + around) * 4 // 3 + around <= MAX_MESSAGE


def test_every_kind_that_kombu_knows_is_bounded() -> None:
    for kind, decoder in _decoders.items():
        assert decoder.__module__ == "workers.transport.compression", kind


def test_a_codec_cannot_decompress() -> None:
    def read(body: bytes, encoding: str) -> object:
        kind = "application/json"
        return Message(body, content_type=kind, content_encoding=encoding, accept={kind}).decode()

    assert read(b'"text"', "utf-8") == "text"
    with pytest.raises(DecodeError, match="content encoding"):
        read(bz2.compress(b'"text"'), "bz2_codec")
