"""Results never replace or remove a user's file by surprise."""

import os
from dataclasses import replace
from pathlib import Path

import pytest

from tasks.batches.batch import Batch
from tasks.batches.files import errors_name, files_of
from tasks.batches.input import InputError
from tasks.batches.outputs import Outputs

ANSWERS, FAILURES = b'{"id": "batch_req_1"}\n', b'{"id": "batch_req_2"}\n'


def all_of(folder: Path) -> Batch:
    """A batch without failures."""
    storage = f"file://{folder}/s"
    return Batch("batch_1", "w", "in", "completed", total=2, bytes=9, storage=storage, created=0.0, round=1)


@pytest.fixture
def batch(tmp_path: Path) -> Batch:
    """A batch that has ended in its second round. One job failed in both rounds."""
    found = replace(all_of(tmp_path), failed=1)
    files = files_of(found)
    files.put_bytes("output.jsonl", ANSWERS)
    files.put_bytes("output.r1.jsonl", b"")
    files.put_bytes("errors.jsonl", FAILURES * 2)
    files.put_bytes(errors_name(found), FAILURES)
    return found


def test_links_stay_links_and_pipes_are_written_to(tmp_path: Path, batch: Batch) -> None:
    target, link, fifo = tmp_path / "target", tmp_path / "link", tmp_path / "fifo"
    link.symlink_to(target)
    os.mkfifo(fifo)
    reader = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
    outputs = Outputs(link, fifo)
    outputs.check("in.jsonl")
    outputs.fetch(batch)
    assert link.is_symlink()
    assert target.read_bytes() == ANSWERS
    assert os.read(reader, 1000) == FAILURES
    assert fifo.is_fifo()
    os.close(reader)


def test_a_device_stays_one_without_an_error_file(batch: Batch) -> None:
    outputs = Outputs.beside(Path("/dev/null"), None)
    outputs.check("in.jsonl")
    outputs.fetch(batch)
    assert outputs.failures is None
    assert Path("/dev/null").is_char_device()


def test_stdout_gets_no_error_file(batch: Batch, capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    outputs = Outputs.beside(Path("-"), None)
    outputs.check()
    outputs.fetch(batch)
    assert outputs.failures is None
    assert capfdbinary.readouterr().out == ANSWERS


@pytest.mark.parametrize(
    ("answers", "failures", "words"),
    [
        ("in.jsonl", None, "in.jsonl is the input"),
        ("link.jsonl", None, "link.jsonl is the input"),
        ("out.jsonl", "in.jsonl", "--errors .*in.jsonl is the input"),
        ("out.jsonl", "out.jsonl", "are both"),
        ("out.jsonl", "./folder/../out.jsonl", "are both"),
        ("-", "-", "are both"),
        ("folder", None, "--output .*folder is a folder"),
        ("out.jsonl", "folder", "--errors .*folder is a folder"),
        ("mine.jsonl", None, "mine.errors.jsonl, which is no error file of Overnight's"),
    ],
)
def test_outputs_that_would_replace_something_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, answers: str, failures: str | None, words: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "in.jsonl").write_text("{}\n")
    (tmp_path / "link.jsonl").symlink_to("in.jsonl")
    (tmp_path / "folder").mkdir()
    (tmp_path / "mine.errors.jsonl").write_text('{"id": "of my own"}\n')
    outputs = Outputs.beside(Path(answers), Path(failures) if failures else None)
    with pytest.raises(InputError, match=words):
        outputs.check("in.jsonl")


def test_without_failures_only_the_batchs_own_error_file_is_removed(tmp_path: Path, batch: Batch) -> None:
    outputs = Outputs.beside(tmp_path / "out.jsonl", None)
    assert outputs.failures is not None
    for content, stays in ((FAILURES * 2, False), (b'{"id": "batch_req_9"}\n', True), (b"", True)):
        outputs.failures.write_bytes(content)
        outputs.check("in.jsonl")
        outputs.fetch(replace(batch, failed=0))
        assert outputs.failures.exists() is stays


def test_another_batchs_error_file_is_replaced(tmp_path: Path, batch: Batch) -> None:
    outputs = Outputs.beside(tmp_path / "out.jsonl", None)
    assert outputs.failures is not None
    outputs.failures.write_bytes(b'{"id": "batch_req_9"}\n')
    outputs.check("in.jsonl")
    outputs.fetch(batch)
    assert outputs.failures.read_bytes() == FAILURES
