"""Worker processes on this machine, for `overnight run` and `overnight worker`."""

import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Self

from tasks.batches.input import InputError
from tasks.console.view import console, silence
from workers import child_process, private_files
from workers.config.settings import Settings

#: Seconds that a stopping worker has beyond the longest call, to put its other jobs back.
STOP = 15.0

#: Seconds that it has after a second interrupt.
STOP_AT_ONCE = 3.0

#: Restarts of crashed workers without progress before the command gives up.
RESTARTS = 5

_PR_SET_PDEATHSIG = 1


class Group:
    """Worker processes, each with its own log."""

    def __init__(self, settings: Settings, number: int, concurrency: int) -> None:
        self.folder = settings.data_dir / "logs"
        private_files.folder(self.folder)
        self.longest_call = max((provider.timeout for provider in settings.providers.values()), default=0.0)
        self.command = command(concurrency, ["--loglevel", "WARNING"])
        self.processes: list[subprocess.Popen[bytes]] = []
        self.restarts = 0
        self.progress = -1
        for index in range(number):
            self.processes.append(self._start(index))

    def log(self, index: int) -> Path:
        """The log of worker `index`."""
        return self.folder / f"worker-{index + 1}.log"

    def _start(self, index: int) -> "subprocess.Popen[bytes]":
        with private_files.append(self.log(index)) as words:
            return subprocess.Popen(
                [*self.command, "--hostname", f"overnight-{os.getpid()}-{index + 1}@%h"],
                env=child_process.environment(),
                stdin=subprocess.DEVNULL,
                stdout=words,
                stderr=words,
                start_new_session=True,  # Ctrl-C reaches only the command, which stops its workers
                preexec_fn=_end_with_parent,  # noqa: PLW1509 - runs one system call and no Python lock
            )

    def check(self, progress: int) -> None:
        """Restart workers that have ended. Raises InputError after `RESTARTS` times without progress."""
        if progress != self.progress:
            self.progress = progress
            self.restarts = 0
        for index, process in enumerate(self.processes):
            status = process.poll()
            if status is None:
                continue
            self.restarts += 1
            if self.restarts > RESTARTS:
                raise InputError("worker", [f"keeps crashing (exit status {status}): see {self.log(index)}"])
            self.processes[index] = self._start(index)

    def stop(self, at_once: Callable[[], bool] = lambda: False) -> None:
        """Let the workers finish their calls, then end them. Stop sooner once `at_once` returns True."""
        for process in self.processes:
            if process.poll() is None:
                process.terminate()
        ends = time.monotonic() + self.longest_call + STOP
        interrupted = False
        while any(process.poll() is None for process in self.processes) and time.monotonic() < ends:
            if at_once() and not interrupted:
                interrupted = True
                ends = time.monotonic() + STOP_AT_ONCE
                for process in self.processes:
                    if process.poll() is None:
                        process.send_signal(signal.SIGQUIT)
            time.sleep(0.05)
        for process in self.processes:
            if process.poll() is None:
                process.kill()
            process.wait()


class Interrupts:
    """The user's interrupts: Ctrl-C stops the command, a second one stops it at once.

    If the terminal is closed (SIGHUP), the batch continues, and only the output ends.
    """

    def __init__(self) -> None:
        self.count = 0

    def __enter__(self) -> Self:
        console.optional = True
        self._before = {
            number: signal.signal(number, handler)
            for number, handler in (
                (signal.SIGINT, self._asked),
                (signal.SIGTERM, self._asked),
                (signal.SIGHUP, self._hung_up),
            )
            # With `nohup`, SIGHUP is ignored and the output goes to a file.
            if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN
        }
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        console.optional = False

    def _asked(self, number: int, frame: FrameType | None) -> None:
        del number, frame
        self.count += 1

    @staticmethod
    def _hung_up(number: int, frame: FrameType | None) -> None:
        del number, frame
        silence()

    def asked(self) -> bool:
        """Whether the user wants to stop."""
        return self.count > 0

    def asked_again(self) -> bool:
        """Whether the user wants to stop at once."""
        return self.count > 1


def _end_with_parent() -> None:
    """Ask Linux for SIGTERM when the parent dies, so that a killed command leaves no workers behind."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


def command(concurrency: int, options: Sequence[str]) -> list[str]:
    """The command line of one worker process."""
    return child_process.command(
        "workers.celery_worker",
        "--app",
        "workers",
        "worker",
        "--concurrency",
        str(concurrency),
        "--without-mingle",
        "--without-gossip",
        *options,
    )


@contextmanager
def workers(
    settings: Settings, number: int, concurrency: int, at_once: Callable[[], bool] = lambda: False
) -> Iterator[Group]:
    """Run worker processes while the block runs."""
    group = Group(settings, number, concurrency)
    try:
        yield group
    finally:
        group.stop(at_once)


def run_workers(number: int, concurrency: int, options: Sequence[str]) -> int:
    """Run worker processes in the foreground until they end or are stopped. Returns an exit status."""
    if number == 1:
        argv = command(concurrency, options)
        os.execve(argv[0], argv, child_process.environment())  # noqa: S606 - becomes the worker: signals reach it directly
    processes = [
        subprocess.Popen(
            [*command(concurrency, options), "--hostname", f"overnight-{os.getpid()}-{index + 1}@%h"],
            env=child_process.environment(),
        )
        for index in range(number)
    ]

    def forward(signum: int, frame: FrameType | None) -> None:
        del frame
        for process in processes:
            if process.poll() is None:
                process.send_signal(signum)

    for number_ in (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT, signal.SIGHUP):
        signal.signal(number_, forward)
    return max(abs(process.wait()) for process in processes)
