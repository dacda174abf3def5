"""The embedded Valkey: one server for all processes of a `data_dir`, if no `redis_url` is configured.

It listens on `data_dir/redis/valkey.sock`. Only its owner can open the folder, so no other user can connect to it or
take its place.

Three locks in that folder say which processes are there. The kernel drops them however a process ends:

    start.lock     held while a process joins, so that ten processes at once start one server
    users.lock     shared by all processes that use the server
    keeper.lock    held by the keeper (embedded_keeper.py), which starts the server, restarts it if it dies, and stops
                   it once it gets users.lock alone, which means that the last user has left

The keeper runs in its own session, so Ctrl-C in a terminal reaches neither it nor the server, and a killed user leaves
nothing behind. If the keeper is killed, a user starts another, which replaces the server.
"""

import atexit
import fcntl
import logging
import os
import subprocess
import sys
import threading
import time
from contextlib import closing, suppress
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

import orjson
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from workers import child_process, private_files
from workers.config.settings import Settings

log = logging.getLogger(__name__)

#: Seconds for the server to load its data and answer.
START_TIMEOUT: Final = 60.0

#: Seconds for the server to stop.
STOP_TIMEOUT: Final = 30.0

#: Seconds between two checks by a user that there is a keeper.
WATCH_EVERY: Final = 5.0

#: The server's socket in the folder.
SOCKET: Final = "valkey.sock"

#: The server's log in the folder.
LOG: Final = "valkey.log"

#: The process ids of the server and its keeper, in the folder.
STATE: Final = "state.json"

#: Bytes of the longest path of a socket that every system accepts.
_LONGEST_PATH: Final = 100

#: Variables that the keeper and its server need. Providers' keys are not among them.
_ENVIRONMENT: Final = ("PATH", "HOME", "LANG", "TZ", "TMPDIR", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "PYTHONHOME")


class ServerError(Exception):
    """The embedded server cannot be used. The message says why and where to look."""


class EmbeddedServer:
    """This process's use of the server of a `data_dir`, from construction until `leave` or exit."""

    def __init__(self, data_dir: Path) -> None:
        self.folder = data_dir / "redis"
        try:
            private_files.folder(self.folder)
            if self.folder.stat().st_mode & 0o077:
                self.folder.chmod(0o700)
            start = open_lock(self.folder / "start.lock")
        except OSError as exc:
            raise ServerError(
                f"{self.folder} cannot be written ({exc.strerror}): the embedded server keeps its data there; "
                "fix that, or set data_dir or redis_url in overnight.toml"
            ) from exc
        self.url = address(self.folder)
        try:
            fcntl.flock(start, fcntl.LOCK_EX)
            self._users: int | None = open_lock(self.folder / "users.lock")
            # Waits while a keeper stops its server.
            fcntl.flock(self._users, fcntl.LOCK_SH)
            self._join()
        finally:
            os.close(start)
        self.pid = os.getpid()
        self._left = threading.Event()
        threading.Thread(target=self._watch, name="embedded-server", daemon=True).start()
        atexit.register(self.leave)

    def leave(self) -> None:
        """Stop using the server, which stops after its last user. A forked child leaves with its parent."""
        if self._users is not None and os.getpid() == self.pid:
            self._left.set()
            os.close(self._users)
            self._users = None
            atexit.unregister(self.leave)

    def _join(self) -> None:
        """Wait until the server answers; start a keeper if there is none."""
        keeper: subprocess.Popen[bytes] | None = None
        ends = time.monotonic() + START_TIMEOUT
        while time.monotonic() < ends:
            if keeper is None and not self._keeper_lives():
                keeper = self._start_keeper()
            # If we started the keeper, wait for its own server: it is about to stop one from an earlier keeper.
            ours = keeper is None or state(self.folder).get("keeper") == keeper.pid
            if ours and answers(self.url):
                _orphan(keeper)
                return
            if keeper is not None and keeper.poll() is not None:
                break
            time.sleep(0.02)
        raise ServerError(f"the embedded server did not start: {_last_words(self.folder)}")

    def _watch(self) -> None:
        """Start another keeper if the last one was killed."""
        while not self._left.wait(WATCH_EVERY):
            with suppress(OSError, ServerError):
                start = open_lock(self.folder / "start.lock")
                try:
                    fcntl.flock(start, fcntl.LOCK_EX | fcntl.LOCK_NB)  # else another process is joining and does this
                    if not self._keeper_lives():
                        log.warning("the keeper of the embedded server is gone; starting another")
                        self._join()
                finally:
                    os.close(start)

    def _start_keeper(self) -> "subprocess.Popen[bytes]":
        log.debug("starting the embedded server in %s", self.folder)
        handle = os.open(self.folder / "keeper.log", os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            return subprocess.Popen(
                child_process.command("workers.embedded_keeper", str(self.folder)),
                stdin=subprocess.DEVNULL,
                stdout=handle,
                stderr=handle,
                cwd="/",
                env=_environment(),
                start_new_session=True,
            )
        finally:
            os.close(handle)

    def _keeper_lives(self) -> bool:
        handle = open_lock(self.folder / "keeper.lock")
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        finally:
            os.close(handle)
        return False


def server_url(settings: Settings) -> str:
    """The URL of the configured Redis server, or of the embedded one, which this process then uses until it exits."""
    if settings.redis_url is not None:
        return settings.redis_url
    found = _joined.get(settings.data_dir)
    if found is None:
        found = _joined[settings.data_dir] = EmbeddedServer(settings.data_dir)
    return found.url


_joined: dict[Path, EmbeddedServer] = {}


def celery_url(url: str) -> str:
    """The URL in the form that Celery and kombu use."""
    return url.replace("unix://", "redis+socket://", 1)


def address(folder: Path) -> str:
    """The URL of the server in `folder`."""
    path = str(folder / SOCKET)
    if len(os.fsencode(path)) > _LONGEST_PATH:
        if sys.platform != "linux":
            raise ServerError(f"the path {path} is too long for a socket: set data_dir to a shorter one")
        # The path is too long for a socket: go through an open handle of the folder, kept until the process exits.
        handle = _folders.get(folder)
        if handle is None:
            handle = _folders[folder] = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        path = f"/proc/self/fd/{handle}/{SOCKET}"
    return f"unix://{quote(path)}"


_folders: dict[Path, int] = {}


def open_lock(path: Path) -> int:
    """Open a file to lock."""
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)


def answers(url: str) -> bool:
    """Whether a server answers, which means that it has loaded its data."""
    with closing(_client(url)) as client:
        try:
            return bool(client.ping())
        except redis.RedisError:
            return False


def pid_of(url: str) -> int | None:
    """The process id of the server at `url`; None if no server answers."""
    with closing(_client(url)) as client:
        try:
            found: Any = client.info("server")
        except redis.RedisError:
            return None
        return int(found["process_id"])


def _client(url: str) -> "redis.Redis":
    """A client without retries."""
    return redis.Redis.from_url(url, socket_timeout=2, retry=Retry(NoBackoff(), 0))


def state(folder: Path) -> dict[str, int]:
    """The process ids `pid` and `keeper` of the server in `folder`; empty if unknown."""
    with suppress(OSError, ValueError, KeyError, TypeError):
        found = orjson.loads((folder / STATE).read_bytes())
        return {name: int(found[name]) for name in ("pid", "keeper")}
    return {}


def _environment() -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if name in _ENVIRONMENT or name.startswith("LC_")}
    return {**kept, "PYTHONPATH": child_process.python_path()}


def _orphan(keeper: "subprocess.Popen[bytes] | None") -> None:
    """Detach a child that outlives this process, without the warning that it still runs."""
    if keeper is not None:
        keeper.returncode = 0


def _last_words(folder: Path) -> str:
    """The last lines of the logs of the server and its keeper."""
    found = []
    for name in (LOG, "keeper.log"):
        with suppress(OSError):
            lines = (folder / name).read_text(errors="replace").strip().splitlines()
            found += [f"{lines[-1][-300:]} ({folder / name})"] if lines else []
    return "; ".join(found) or f"see the logs in {folder}"
