"""The embedded Valkey: one server for every process of a `data_dir`, if no `redis_url` is configured.

It listens on `data_dir/redis/valkey.sock`, in a folder that is open to its owner alone: nobody else can connect to it,
and nobody else can take its source while it is away.

Three locks in that folder say who is there; the kernel drops them whenever a process ends, however it ends:

    start.lock     taken for the moment of joining, so that ten processes at once start one server
    users.lock     shared: every process that uses the server holds it for as long as it does
    keeper.lock    held by the keeper (embedded_keeper.py), which starts the server, starts it again if it dies, and
                   stops it when it gets users.lock for itself alone, that is when the last user has left

The keeper is in a session of its own: Ctrl-C in a terminal reaches neither it nor the server, and a user that is
killed leaves nothing behind. If the keeper is killed, a user starts another, which replaces the server it has left.
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

#: Seconds that a server may take to load its data and answer, and to stop.
START_TIMEOUT, STOP_TIMEOUT = 60.0, 30.0

#: Seconds between two looks of a user whether there is still a keeper.
WATCH_EVERY: Final = 5.0

SOCKET: Final = "valkey.sock"
LOG: Final = "valkey.log"

#: Who runs the server: its own process id and its keeper's.
STATE: Final = "state.json"

#: The longest path of a socket that every system takes, in bytes.
_LONGEST_PATH: Final = 100

#: What the keeper and its server need of the environment: no provider's key.
_ENVIRONMENT: Final = ("PATH", "HOME", "LANG", "TZ", "TMPDIR", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "PYTHONHOME")


class ServerError(Exception):
    """The embedded server cannot be used; the words say why and where to look."""


class EmbeddedServer:
    """This process's part in the server of a `data_dir`: joined when made, left by `leave` or at exit."""

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
            # Waits for a keeper that is just stopping its server.
            fcntl.flock(self._users, fcntl.LOCK_SH)
            self._join()
        finally:
            os.close(start)
        self.pid = os.getpid()
        self._left = threading.Event()
        threading.Thread(target=self._watch, name="embedded-server", daemon=True).start()
        atexit.register(self.leave)

    def leave(self) -> None:
        """Use the server no more; the last one to leave makes it stop. A forked child leaves with its parent."""
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
            # If the keeper is ours, not before its own server answers: one that was left behind is about to be stopped.
            ours = keeper is None or state(self.folder).get("keeper") == keeper.pid
            if ours and answers(self.url):
                _orphan(keeper)
                return
            if keeper is not None and keeper.poll() is not None:
                break
            time.sleep(0.02)
        raise ServerError(f"the embedded server did not start: {_last_words(self.folder)}")

    def _watch(self) -> None:
        """Start a keeper again if the last one was killed: nothing else does while its users stay."""
        while not self._left.wait(WATCH_EVERY):
            with suppress(OSError, ServerError):
                start = open_lock(self.folder / "start.lock")
                try:
                    fcntl.flock(start, fcntl.LOCK_EX | fcntl.LOCK_NB)  # else somebody is joining, and sees to it
                    if not self._keeper_lives():
                        log.warning("the keeper of the embedded server is gone; another one is started")
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
    """Where the Redis server is: the configured one, or the embedded one, which this process then uses to its end."""
    if settings.redis_url is not None:
        return settings.redis_url
    found = _joined.get(settings.data_dir)
    if found is None:
        found = _joined[settings.data_dir] = EmbeddedServer(settings.data_dir)
    return found.url


_joined: dict[Path, EmbeddedServer] = {}


def celery_url(url: str) -> str:
    """The same server as Celery and kombu name it."""
    return url.replace("unix://", "redis+socket://", 1)


def address(folder: Path) -> str:
    """The URL of the server in this folder."""
    path = str(folder / SOCKET)
    if len(os.fsencode(path)) > _LONGEST_PATH:
        if sys.platform != "linux":
            raise ServerError(f"the path {path} is too long for a socket: set data_dir to a shorter one")
        # A socket's path has room for a hundred bytes. The handle stays open for as long as the process lives.
        handle = _folders.get(folder)
        if handle is None:
            handle = _folders[folder] = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        path = f"/proc/self/fd/{handle}/{SOCKET}"
    return f"unix://{quote(path)}"


_folders: dict[Path, int] = {}


def open_lock(path: Path) -> int:
    """A file to lock."""
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)


def answers(url: str) -> bool:
    """Whether a server is there and has loaded its data."""
    with closing(_client(url)) as client:
        try:
            return bool(client.ping())
        except redis.RedisError:
            return False


def pid_of(url: str) -> int | None:
    """The process id of the server that answers; None if none does."""
    with closing(_client(url)) as client:
        try:
            found: Any = client.info("server")
        except redis.RedisError:
            return None
        return int(found["process_id"])


def _client(url: str) -> "redis.Redis":
    """A client that asks once."""
    return redis.Redis.from_url(url, socket_timeout=2, retry=Retry(NoBackoff(), 0))


def state(folder: Path) -> dict[str, int]:
    """Who runs the server of this folder; empty if that is not known."""
    with suppress(OSError, ValueError, KeyError, TypeError):
        found = orjson.loads((folder / STATE).read_bytes())
        return {name: int(found[name]) for name in ("pid", "keeper")}
    return {}


def _environment() -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if name in _ENVIRONMENT or name.startswith("LC_")}
    return {**kept, "PYTHONPATH": child_process.python_path()}


def _orphan(keeper: "subprocess.Popen[bytes] | None") -> None:
    """Let go of a child that outlives this process, without the warning that it still runs."""
    if keeper is not None:
        keeper.returncode = 0


def _last_words(folder: Path) -> str:
    """The end of what the server and its keeper have said."""
    found = []
    for name in (LOG, "keeper.log"):
        with suppress(OSError):
            lines = (folder / name).read_text(errors="replace").strip().splitlines()
            found += [f"{lines[-1][-300:]} ({folder / name})"] if lines else []
    return "; ".join(found) or f"look into {folder}"
