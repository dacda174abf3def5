"""The socket that `overnight serve` listens on."""

import socket
from pathlib import Path

from tasks.server.serve import bind
from tests.support.toml import provider
from workers.config.settings import load


def test_an_answer_leaves_without_waiting_for_an_acknowledgement(tmp_path: Path) -> None:
    """The kernel would keep the second write of an answer for 40 ms, if the connection didn't have TCP_NODELAY."""
    (tmp_path / "overnight.toml").write_text(provider("http://127.0.0.1:1"))
    with (
        bind(load(tmp_path / "overnight.toml"), "127.0.0.1", 0) as listening,
        socket.create_connection(listening.getsockname(), timeout=5.0),
        listening.accept()[0] as accepted,
    ):
        assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
