"""Inputs: pipes, file names that are not UTF-8, and URLs with credentials, which no message may contain."""

import os
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tasks.batches.sources import Source, rereadable
from tasks.jobs.storage import StorageError

SECRET = "SECRET-123/abc"
QUERY = "X-Amz-Signature=SECRET-123%2Fabc&X-Amz-Expires=600"


@contextmanager
def server(answer: bytes) -> Iterator[str]:
    """A raw server that sends each connection this answer; yields its URL, with credentials."""
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def serve() -> None:
            while True:
                try:
                    connection, _ = listening.accept()
                except OSError:
                    return
                with connection:
                    connection.recv(65536)
                    connection.sendall(answer)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield f"http://user:hunter22@127.0.0.1:{listening.getsockname()[1]}/in/t.jsonl?{QUERY}"
        listening.shutdown(socket.SHUT_RDWR)
    thread.join(5)


def without_credentials(text: str) -> bool:
    return not any(each in text for each in ("hunter22", "SECRET-123", "X-Amz-Expires"))


@pytest.mark.parametrize(
    ("answer", "words", "missing"),
    [
        (b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n", "there is no such file", True),
        (b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n", "cannot be read: HTTP 403 Forbidden", False),
        (b"HTTP/1.1 500 Oh\r\nContent-Length: 0\r\n\r\n", "cannot be read: HTTP 500 Oh", False),
        (b"nonsense\r\n\r\n", "cannot be read: ", False),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 900\r\n\r\n{}\n", "cannot be read to its end: ", False),
    ],
)
def test_errors_of_a_url_contain_no_credentials(answer: bytes, words: str, missing: bool) -> None:
    with server(answer) as url, pytest.raises(StorageError) as error:
        list(Source(url).chunks())
    assert words in str(error.value)
    assert "/in/t.jsonl: " in str(error.value)
    assert error.value.missing is missing
    assert without_credentials(str(error.value))


def test_an_unreachable_server_is_not_a_missing_file() -> None:
    with server(b"") as url:
        pass
    with pytest.raises(StorageError, match=r"t\.jsonl: cannot be read: ") as error:
        Source(url).open()
    assert error.value.missing is False
    assert without_credentials(str(error.value))


def test_an_object_store_without_credentials_is_an_error(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
        monkeypatch.setenv(name, str(tmp_path / "none"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    with pytest.raises(StorageError, match=r"s3://bucket/in\.jsonl: cannot be read: .*redentials"):
        Source("s3://bucket/in.jsonl").check()


def test_a_batch_is_named_after_its_file() -> None:
    source = Source(f"https://user:hunter22@example.com/in/t.jsonl?{QUERY}#{SECRET}")
    assert (source.shown, source.name) == ("https://***@example.com/in/t.jsonl", "t.jsonl")
    assert Source(os.fsdecode(b"in/caf\xe9.jsonl")).name == "caf\N{REPLACEMENT CHARACTER}.jsonl"


def test_a_file_name_may_be_invalid_utf_8(tmp_path: Path) -> None:
    path = os.path.join(os.fsencode(tmp_path), b"caf\xe9.jsonl")  # noqa: PTH118 - bytes
    with open(path, "wb") as writing:  # noqa: PTH123 - bytes
        writing.write(b"{}\n")
    with rereadable(os.fsdecode(path), tmp_path / "data") as source:
        assert b"".join(source.chunks()) == b"{}\n"
    assert not (tmp_path / "data").exists()


def test_a_pipe_is_copied_privately_and_can_be_read_twice(tmp_path: Path) -> None:
    fifo, folder = tmp_path / "fifo", tmp_path / "data"
    os.mkfifo(fifo)
    writer = threading.Thread(target=fifo.write_bytes, args=(b"{}\n" * 100_000,))
    writer.start()
    with rereadable(str(fifo), folder) as source:
        assert [len(b"".join(source.chunks())) for _ in range(2)] == [300_000] * 2
        assert (source.shown, source.name) == (str(fifo), "fifo")
        [copy] = folder.iterdir()
        assert (copy.stat().st_mode | folder.stat().st_mode) & 0o077 == 0
    writer.join()
    assert list(folder.iterdir()) == []
