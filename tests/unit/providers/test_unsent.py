"""A failure may have been billed only if the request was written to a connection."""

import socket
import time

import pytest

from tests.support.unreachable import KINDS, answering, unreachable
from tests.unit.providers.conftest import call
from workers.providers import CallFailed, client

#: The error's code, by why the provider cannot be reached.
CODES = {
    "backlog": "connect_timeout",
    "tls": "connect_timeout",
    "hangs_up": "connect",
    "proxy": "connect",
    "dns": "connect_timeout",
}


@pytest.mark.parametrize("kind", KINDS)
def test_a_request_that_was_never_written_was_not_billed(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with unreachable(kind, monkeypatch) as base_url, pytest.raises(CallFailed) as raised:
        call(base_url, timeout=0.2)
    assert (raised.value.code, raised.value.billed) == (CODES[kind], False)


@pytest.mark.parametrize("kind", ["backlog", "tls", "dns"])
def test_connecting_is_bounded_whatever_the_calls_timeout(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "CONNECT_TIMEOUT", 0.2)
    client._limits.cache_clear()
    began = time.monotonic()
    with unreachable(kind, monkeypatch) as base_url, pytest.raises(CallFailed, match="connect_timeout") as raised:
        call(base_url, timeout=600.0)
    client._limits.cache_clear()
    assert time.monotonic() - began < 5
    assert raised.value.message == "no connection within 0.2 s"
    assert not raised.value.billed


def test_a_connection_gets_as_long_as_three_lost_packets_take() -> None:
    """TCP sends its first packet again after 1, 3 and 7 seconds."""
    assert 7 < client._limits(600.0).connect == client._limits(600.0).sock_connect <= 15


def test_a_request_that_was_written_may_have_been_billed() -> None:
    with answering(b"") as port, pytest.raises(CallFailed) as raised:
        call(f"http://127.0.0.1:{port}")
    assert (raised.value.code, raised.value.billed) == ("connection_lost", True)


def test_a_port_without_a_listener_was_not_billed() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        with pytest.raises(CallFailed) as raised:
            call(f"http://127.0.0.1:{taken.getsockname()[1]}")
    assert (raised.value.code, raised.value.billed) == ("connect", False)
