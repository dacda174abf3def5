"""A worker process of a site, which dies with the tests."""

import ctypes
import signal
import subprocess
from pathlib import Path


def end_with_tests() -> None:
    """Ask Linux for SIGKILL when the tests die, however they do: nothing that they started is left behind."""
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)


class Worker:
    """A worker process, with what it said."""

    def __init__(self, process: "subprocess.Popen[bytes]", log: Path) -> None:
        self.process = process
        self.log = log

    @property
    def pid(self) -> int:
        return self.process.pid

    def said(self) -> str:
        return self.log.read_text(errors="replace")

    def ready(self) -> bool:
        assert self.process.poll() is None, f"the worker ended:\n{self.said()[-3000:]}"
        return " ready." in self.said()

    def peak(self) -> int:
        """The most memory that it has had so far, in bytes."""
        return self._bytes("VmHWM")

    def memory(self) -> int:
        """The memory that it has, in bytes."""
        return self._bytes("VmRSS")

    def _bytes(self, name: str) -> int:
        status = Path(f"/proc/{self.pid}/status").read_text()
        return int(next(line.split()[1] for line in status.splitlines() if line.startswith(name))) << 10

    def handles(self) -> int:
        """The files and connections that it has open."""
        return len(list(Path(f"/proc/{self.pid}/fd").iterdir()))

    def kill(self) -> None:
        """As a machine that loses its power."""
        self.process.kill()
        self.process.wait()

    def stop(self, seconds: float = 30.0) -> int:
        """Ask it to finish what it is doing, and wait until it has ended."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGCONT)
            self.process.terminate()
            try:
                self.process.wait(seconds)
            except subprocess.TimeoutExpired:
                self.kill()
        return self.process.returncode
