"""A disk that is full for a while, under the embedded server, the storage or the logs: then the run goes on."""

import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.simulator import Simulator
from tests.support.site import Site, jobs, read_lines, wait_for

pytestmark = pytest.mark.chaos

#: The disk in bytes, jobs, and seconds for which there is no space.
SIZE, COUNT, FULL = 24 << 20, 400, 20.0


@contextmanager
def small_disk(folder: Path) -> Iterator[None]:
    """A file system of its own, of `SIZE`, at this folder."""
    folder.mkdir(parents=True, mode=0o700)
    mount = ["mount", "-t", "tmpfs", "-o", f"size={SIZE},mode=0700", "tmpfs", str(folder)]
    try:
        done = subprocess.run(mount, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        pytest.skip("there is no mount here")
    if done.returncode:
        pytest.skip(f"a tmpfs cannot be mounted: {done.stderr.strip()}")
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def fill(folder: Path) -> Path:
    """Leave no space."""
    filler = folder / "filler"
    with filler.open("wb", buffering=0) as writing:
        for size in (1 << 20, 1 << 12, 1):
            try:
                while True:
                    writing.write(b"x" * size)
            except OSError:
                continue
    return filler


@pytest.mark.parametrize("where", ["redis", "files", "logs"])
def test_a_run_goes_on_when_there_is_space_again(tmp_path: Path, where: str) -> None:
    failures = [{"mode": "500", "probability": 0.05}]  # something to log
    output = tmp_path / "out.jsonl"
    with Simulator(latency=0.4, failures=failures) as simulator:
        site = Site(tmp_path / "site", simulator)
        folder = site.folder / ".overnight" / where
        with small_disk(folder), site:
            command = ("run", str(site.input(jobs(COUNT))), "-w", "nightly", "-o", str(output), "-c", "10")
            run = site.popen(*command)
            wait_for(lambda: len(simulator.journal()) > COUNT // 8, 60, what="the first answers")
            server = site.redis_pid()
            filler = fill(folder)
            time.sleep(FULL)
            called = len(simulator.journal())
            assert (site.redis_pid() != server) is (where == "redis"), "Valkey ends when it cannot write its journal"
            filler.unlink()
            _, words = run.communicate(timeout=180)
            assert run.returncode == 0, words
            lines = read_lines(output)
            answered = [entry for entry in simulator.journal() if entry["status"] == 200]
    assert Counter(line["custom_id"] for line in lines) == Counter(line["custom_id"] for line in jobs(COUNT))
    assert len(answered) == COUNT, f"paid twice; {called} calls before there was space"
