"""Batches as their owner handles them: submitted twice, interrupted, on a disk that is full, retried, cleaned away."""

import os
import resource
import signal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil
import pytest

from tasks.batches.batch import from_hash
from tests.simulator import Simulator
from tests.support.fixtures import simulator_fixture, site_fixture
from tests.support.site import ROOT, Site, job, jobs, read_lines, wait_for

if TYPE_CHECKING:
    import subprocess

pytestmark = [pytest.mark.long, pytest.mark.timeout(240)]


simulator = simulator_fixture("function")

site = site_fixture(scope="function")


def _record(site: Site, batch: str) -> Any:
    return from_hash(site.client().hgetall(site.keys.batch(batch)))


def test_a_file_submitted_three_times_at_once_is_one_batch(site: Site, simulator: Simulator) -> None:
    site.start_worker()
    source = str(site.input(jobs(40)))
    processes = [site.popen("submit", source, "-w", "nightly", "--wait") for _ in range(3)]
    ids = {process.communicate(timeout=120)[0].strip() for process in processes}
    assert len(ids) == 1
    assert simulator.stats()["requests"] == 40
    again = site.run("submit", source, "-w", "nightly", "--new", "--wait", seconds=120).stdout.strip()
    assert again not in ids
    assert simulator.stats()["requests"] == 80


def test_a_full_disk_is_reported_stops_feeding_and_loses_nothing(site: Site, simulator: Simulator) -> None:
    """The worker may write files of a few KB only, as on a disk that is full; then it may write again."""
    worker = site.start_worker()
    size = worker.log.stat().st_size
    resource.prlimit(worker.pid, resource.RLIMIT_FSIZE, (size + 6_000, resource.RLIM_INFINITY))
    batch = site.submit(jobs(300))
    trouble = wait_for(lambda: _record(site, batch).trouble, 60.0, what="trouble")
    assert "output.jsonl cannot be written" in trouble
    assert site.status(batch)["trouble"] == trouble
    resource.prlimit(worker.pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    status = site.wait(batch, 100)
    assert (status["request_counts"]["completed"], status["trouble"]) == (300, None)
    assert len({line["custom_id"] for line in site.results(batch)[0]}) == 300
    assert simulator.stats()["requests"] == 300


def test_a_read_only_folder_is_reported_until_it_is_fixed(tmp_path: Path, simulator: Simulator) -> None:
    path = f"{Path(__file__).parent / 'powerless'}{os.pathsep}{ROOT}"
    with Site(tmp_path, simulator, environment={"PYTHONPATH": path}) as site:
        worker = site.start_worker()
        os.kill(worker.pid, signal.SIGSTOP)
        batch = site.submit(jobs(200))
        folder = site.folder / ".overnight" / "files" / batch
        folder.chmod(0o500)
        os.kill(worker.pid, signal.SIGCONT)
        trouble = wait_for(lambda: _record(site, batch).trouble, 60.0, what="trouble")
        assert "output.jsonl cannot be written: Permission denied" in trouble
        folder.chmod(0o700)
        status = site.wait(batch, 100)
        assert (status["request_counts"]["completed"], status["trouble"]) == (200, None)

        closed = tmp_path / "closed"
        closed.mkdir(0o500)
        command = site.popen("results", batch, "-o", str(closed / "out.jsonl"))  # a start of its own gives up the right
        told = command.communicate(timeout=60)[1]
        assert command.returncode == 2
        assert f"{closed / 'out.jsonl'} cannot be written: Permission denied" in told
        assert list(closed.iterdir()) == []
        assert len(site.results(batch)[0]) == 200
    assert simulator.stats()["requests"] == 200


def test_a_vanished_input_is_reported_until_it_is_back(site: Site, simulator: Simulator) -> None:
    site.run("status")  # the server
    holder = site.start_worker("-Q", "none")  # keeps the server, and runs the ticks only
    os.kill(holder.pid, signal.SIGSTOP)
    batch = site.submit(jobs(20))
    path = site.folder / ".overnight" / "files" / batch / "input.jsonl"
    away = path.rename(site.folder / "away.jsonl")
    os.kill(holder.pid, signal.SIGCONT)
    assert "is not there" in wait_for(lambda: _record(site, batch).trouble, 60.0, what="trouble")
    away.rename(path)
    site.start_worker()
    assert site.wait(batch)["request_counts"]["completed"] == 20
    assert simulator.stats()["requests"] == 20


def test_retry_runs_what_failed_and_the_results_are_whole(site: Site, simulator: Simulator) -> None:
    simulator.configure(failures=[{"mode": "400", "job": "odd"}])
    site.start_worker()
    lines = [job(number, text=f"{'odd' if number % 2 else 'even'} {number}") for number in range(20)]
    batch = site.submit(lines)
    assert site.wait(batch)["request_counts"] == {"total": 20, "completed": 10, "failed": 10}
    simulator.configure(failures=[])
    assert "running 10 jobs again" in site.run("retry", batch).stderr
    assert site.wait(batch)["request_counts"] == {"total": 20, "completed": 20, "failed": 0}
    output, errors = site.results(batch)
    assert (len({line["custom_id"] for line in output}), len(output), errors) == (20, 20, [])
    assert simulator.stats()["statuses"] == {"200": 20, "400": 10}
    site.run("clean", "--older-than", "0")
    assert not list((site.folder / ".overnight" / "files").glob("batch_*"))


def _run(site: Site, source: Path) -> "subprocess.Popen[str]":
    return site.popen("run", str(source), "-o", "out.jsonl", "--workers", "1", "-c", "10", start_new_session=True)


def _workers(pid: int) -> list[psutil.Process]:
    return [child for child in psutil.Process(pid).children() if "celery" in " ".join(child.cmdline())]


def test_an_interrupted_run_finishes_paid_calls_and_resumes(site: Site, simulator: Simulator) -> None:
    simulator.configure(latency=1.0)
    source = site.input(jobs(40))
    process = _run(site, source)
    wait_for(lambda: simulator.stats()["requests"] >= 15, 60.0, what="calls")
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "will finish, since they are paid for" in err
    assert "the same command resumes" in err
    first = simulator.stats()
    assert first["in_flight"] == first["hung_up"] == 0
    simulator.configure(latency=0.0)
    done = site.run("run", str(source), "-o", "out.jsonl", "--workers", "1", seconds=120)
    assert "resuming at" in done.stderr
    assert len({line["custom_id"] for line in read_lines(site.folder / "out.jsonl")}) == 40
    assert simulator.stats()["requests"] == 40  # nothing was paid twice


def test_a_second_interrupt_stops_at_once(site: Site, simulator: Simulator) -> None:
    simulator.configure(failures=[{"mode": "hang"}])
    process = _run(site, site.input(jobs(10)))
    wait_for(lambda: simulator.stats()["in_flight"] >= 5, 60.0, what="calls")
    workers = _workers(process.pid)
    process.send_signal(signal.SIGINT)
    assert process.stderr is not None
    wait_for(lambda: "Stopping" in (process.stderr.readline() if process.stderr else ""), 30.0)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=30)
    assert process.returncode == 130
    assert "may have been billed" in err
    assert not psutil.wait_procs(workers, timeout=5)[1]


@pytest.mark.parametrize("hung_up", [True, False])  # a reader of a pipe goes away without a signal
def test_a_closed_terminal_stops_nothing(site: Site, simulator: Simulator, hung_up: bool) -> None:
    simulator.configure(latency=0.3)
    process = _run(site, site.input(jobs(60)))
    wait_for(lambda: simulator.stats()["requests"] >= 10, 60.0, what="calls")
    if hung_up:
        process.send_signal(signal.SIGHUP)
    for pipe in (process.stdout, process.stderr):
        assert pipe is not None
        pipe.close()
    assert process.wait(60) == 0
    assert len(read_lines(site.folder / "out.jsonl")) == 60
