"""Calls from code that may block: scripts that the server forgot, refusals, and calls that are packed once."""

import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from limits.client.connection import Server
from limits.client.scripts import Call, Script
from limits.errors import ScriptError, ServerUnavailable
from tests.unit.limits.calls import BROKEN, ONE


def test_a_script_that_the_server_does_not_know_is_sent(client: "redis.Redis") -> None:
    server = Server(client)
    client.script_flush()
    assert server.run(ONE) == 1
    client.script_flush()
    assert server.run_many([ONE, ONE]) == [1, 1]
    client.script_flush()
    assert [server.repeat(ONE) for _ in range(3)] == [1, 1, 1]
    server.close()


def test_a_refusal_is_reported(client: "redis.Redis") -> None:
    with pytest.raises(ScriptError, match="broken"):
        Server(client).run(BROKEN)
    with pytest.raises(ScriptError, match="broken"):
        Server(client).run_many([ONE, BROKEN])


def test_a_call_that_is_made_again_and_again_is_packed_once(client: "redis.Redis") -> None:
    echo = Script("echo", "return KEYS[1] .. ARGV[1]")
    server = Server(client)
    for _ in range(2):
        for number in range(100):
            text = str(number)
            assert server.repeat(Call(echo, ("k",), (text,), bytes)) == b"k" + text.encode()
    assert 0 < len(server._packed) < 100
    with pytest.raises(ScriptError, match="broken"):
        server.repeat(BROKEN)
    assert server.repeat(ONE) == 1
    server.close()


def test_a_repeated_call_outlives_its_connection(client: "redis.Redis") -> None:
    server = Server(client)
    assert server.repeat(ONE) == 1
    assert server._connection is not None
    server._connection.send_command("CLIENT", "ID")
    assert client.client_kill_filter(_id=server._connection.read_response()) == 1
    assert server.repeat(ONE) == 1
    assert server.repeat(ONE) == 1
    server.close()
    server.close()
    assert server.repeat(ONE) == 1, "it opens again"
    server.close()


def test_no_server_listens() -> None:
    nobody = redis.Redis(port=1, retry=Retry(NoBackoff(), 0))
    with pytest.raises(ServerUnavailable):
        Server(nobody).run(ONE)
    with pytest.raises(ServerUnavailable):
        Server(nobody).run_many([ONE])
