"""Batches in an object store: moto's S3, over HTTP, with refusals when a test wants them."""

import json
from pathlib import Path

import pytest

from tasks.batches.files import ERRORS, INPUT, OUTPUT, verified
from tasks.jobs.storage import Files, StorageError, open_files, probe
from tests.simulator import Simulator
from tests.support.s3 import BUCKET, Store, s3_fixture
from tests.support.site import Site, job, jobs

pytestmark = [pytest.mark.long, pytest.mark.filterwarnings("ignore")]  # warnings of botocore and werkzeug

s3 = s3_fixture()


@pytest.fixture
def files(s3: Store, request: pytest.FixtureRequest) -> Files:
    s3.refuse = 0
    return open_files(f"s3://{BUCKET}/files", request.node.name)


def test_a_probe_says_what_does_not_work(s3: Store) -> None:
    probe(f"s3://{BUCKET}/files")
    with pytest.raises(StorageError, match="cannot be used"):
        probe("s3://no-such-bucket/files")
    del s3


def test_parts_are_joined_in_order_and_can_be_joined_again(files: Files) -> None:
    pieces = [f"line {number}\n".encode() * 3 for number in range(70)]
    for number, piece in enumerate(pieces):
        if number % 10:  # a write may have no line for this file
            files.write_at(OUTPUT, 0, number, piece)
    whole = b"".join(piece for number, piece in enumerate(pieces) if number % 10)
    for _ in range(2):
        files.finish(OUTPUT, len(whole), 70)
        with files.open(OUTPUT) as source:
            assert source.read() == whole


def test_a_missing_part_is_reported_and_nothing_published(files: Files) -> None:
    files.write_at(OUTPUT, 0, 0, b"first\n")
    with pytest.raises(StorageError, match="has parts of 6 bytes, and 12 were written"):
        files.finish(OUTPUT, 12, 2)
    assert not files.exists(OUTPUT)


def test_a_write_repeated_is_one_part(files: Files) -> None:
    for _ in range(2):
        files.write_at(OUTPUT, 0, 0, b"same\n")
    files.finish(OUTPUT, 5, 1)
    with files.open(OUTPUT) as source:
        assert source.read() == b"same\n"


def test_an_upload_that_is_refused_for_a_while_starts_over(
    s3: Store, files: Files, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tasks.jobs.storage.remote.RETRY_DELAYS", (0.01,) * 12)
    content = [b"x" * (1 << 20)] * 20  # in two pieces
    s3.on, s3.refuse = INPUT, 3
    files.put(INPUT, lambda: content)
    assert s3.refuse == 0
    with files.open(INPUT) as source:
        assert source.read() == b"".join(content)


def test_an_input_that_has_changed_is_not_published(files: Files) -> None:
    with pytest.raises(StorageError, match="changed while"):
        files.put(INPUT, lambda: verified([b"other"], "0" * 64))
    assert not files.exists(INPUT)


@pytest.mark.timeout(240)
def test_a_batch_through_s3_that_is_refused_for_a_while(s3: Store, tmp_path: Path) -> None:
    """Submitted from a folder, its files in the bucket; while it answers 503, that is reported; then all goes on."""
    more = f'storage = "s3://{BUCKET}/batches"'
    with Simulator() as simulator, Site(tmp_path, simulator, more=more, environment=s3.environment()) as site:
        worker = site.start_worker()
        simulator.configure(failures=[{"mode": "400", "job": "refuse me"}])
        s3.on, s3.refuse, s3.refused = "output.jsonl.parts", 7, 0
        source = site.input([*jobs(60), job(999, text="refuse me")])
        done = site.run("submit", str(source), "-w", "nightly", "--wait", status=1, seconds=200)
        assert s3.refused == 7
        assert "cannot be written just now" in worker.said()
        files = open_files(f"s3://{BUCKET}/batches", done.stdout.strip())
        with files.open(OUTPUT) as output:
            assert {json.loads(line)["custom_id"] for line in output} == {f"job-{number}" for number in range(1, 61)}
        with files.open(ERRORS) as errors:
            assert [json.loads(line)["custom_id"] for line in errors] == ["job-999"]
        names = ("--dedupe", "--pilot", "3", "--yes", "--wait")
        lines = [job(number, text=f"question {number % 7}") for number in range(1, 31)]
        batch = site.run("submit", str(site.input(lines)), "-w", "nightly", *names, seconds=100).stdout.strip()
        with open_files(f"s3://{BUCKET}/batches", batch).open(OUTPUT) as output:
            copies = ["copy_of" in json.loads(line)["overnight"] for line in output]
        assert (len(copies), sum(copies)) == (30, 23)
        site.run("clean", "--older-than", "0", seconds=100)
        assert not files.exists(OUTPUT)
