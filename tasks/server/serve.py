"""`overnight serve`: binds the port, and runs uvicorn until it is stopped."""

import logging
import resource
import signal
import socket
from contextlib import suppress
from typing import Final

import uvicorn

from tasks.monitoring.flower.guard import is_loopback
from tasks.server.app import application
from tasks.server.connections import Connection
from workers import plain_text
from workers.config.current import ask_again
from workers.config.problems import SettingsError
from workers.config.settings import Settings

#: Connections that wait to be accepted.
BACKLOG: Final = 2_048

#: Seconds for which an idle connection is kept. Clients and proxies keep it for less, so they close it first.
KEEP_ALIVE: Final = 75


def bind(settings: Settings, host: str, port: int) -> socket.socket:
    """A listening socket. SettingsError if other machines could reach it and no clients are configured."""
    if not settings.clients and not is_loopback(host):
        open_to_all = "anyone could use this server, since there are no [clients] in overnight.toml"
        raise SettingsError([f"--host {host}: {open_to_all}: add one, or serve on 127.0.0.1"])
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listening = socket.create_server((host, port), family=family, backlog=BACKLOG)
    # Accepted sockets inherit it. asyncio doesn't set it on them, and without it the body of an answer waits 40 ms for
    # the client to acknowledge the head.
    listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listening


def run(settings: Settings, listening: socket.socket) -> None:
    """Serve until stopped: SIGTERM or Ctrl-C lets requests in flight finish. Raises SettingsError for a missing key."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    plain_text.install(logging.getLogger())
    for name in ("httpx", "uvicorn.error"):
        logging.getLogger(name).setLevel(logging.WARNING)
    _raise_file_limit()
    config = uvicorn.Config(
        application(settings),
        http=Connection,
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_keep_alive=KEEP_ALIVE,
        timeout_graceful_shutdown=int(settings.stop_grace_period) or 1,
    )
    signal.signal(signal.SIGHUP, ask_again)
    uvicorn.Server(config).run(sockets=[listening])


def _raise_file_limit() -> None:
    """Raise the limit of open files to the system's, since each connection takes one."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < hard:
        with suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
