"""The HTTP server before any resource: keys, errors, the log, slow and broken clients."""

import os
import re
import socket
import time
from contextlib import ExitStack

import pytest

from tests.simulator import Simulator
from tests.support.api import CLIENTS, KEYS, ONE, ONE_OLD, TWO, Api, answers, api_fixture, served
from tests.support.fixtures import site_fixture
from tests.support.site import Site, wait_for

site = site_fixture(tables=CLIENTS)
api = api_fixture()


def connect(api: Api) -> socket.socket:
    host, _, port = api.url.removeprefix("http://").removesuffix("/v1").partition(":")
    return socket.create_connection((host, int(port)), timeout=30.0)


@pytest.mark.parametrize("key", ["", "sk-wrong", ONE[:-1], ONE + "0", "ключ"])
def test_a_request_without_a_clients_key_gets_401(api: Api, key: str) -> None:
    with api.http("") as client:
        answer = client.get("nowhere", headers={"authorization": f"Bearer {key}".strip().encode()})
    assert answer.status_code == 401
    assert answer.json()["error"]["code"] == "invalid_api_key"
    assert answer.json()["error"]["type"] == "invalid_request_error"


@pytest.mark.parametrize("key", [ONE, ONE_OLD, TWO])
def test_every_key_of_a_client_opens_the_door(api: Api, key: str) -> None:
    with api.http(key) as client:
        answer = client.get("nowhere")
        assert (answer.status_code, answer.json()["error"]["code"]) == (404, "unknown_url")
    with api.http(
        "",
    ) as client:
        assert client.get("nowhere", headers={"x-api-key": key}).status_code == 404


def test_each_answer_has_an_id_that_is_in_the_log_with_its_client_but_without_its_key(api: Api) -> None:
    with api.http() as client:
        answer = client.get("nowhere?secret=marzipan")
    found = answer.headers["x-request-id"]
    line = wait_for(lambda: [each for each in api.log().splitlines() if found in each])[0]
    assert re.search(rf"{found} client=one GET - 404 [\d.]+ ms$", line)
    assert ONE not in api.log()
    assert "marzipan" not in api.log()


def test_a_method_that_a_route_does_not_take_gets_405(api: Api) -> None:
    with api.http() as client:
        assert client.delete(api.url.removesuffix("/v1") + "/healthz").status_code == 405


def test_headers_without_end_close_only_their_connection(api: Api) -> None:
    with connect(api) as one:
        one.sendall(b"GET / HTTP/1.1\r\nhost: x\r\n" + b"x-filler: " + b"a" * 70_000)
        assert b"400" in one.recv(100)
    with api.http() as client:
        assert client.get("nowhere").status_code == 404


def test_bytes_that_are_not_http_get_400(api: Api) -> None:
    with connect(api) as one:
        one.sendall(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n")
        assert one.recv(100).startswith(b"HTTP/1.1 400")


@pytest.mark.long
def test_two_keys_that_are_equal_are_refused_at_the_start(site: Site) -> None:
    process = site._start("same.log", "tasks", "serve", "--port", "0", environment={**KEYS, "KEY_TWO": ONE})
    assert process.process.wait(30) == 2
    assert "clients.two.key (env:KEY_TWO) is also a key of clients.one" in process.said()
    assert ONE not in process.said()


@pytest.mark.long
def test_a_key_that_is_not_set_is_refused_at_the_start(site: Site) -> None:
    process = site._start("unset.log", "tasks", "serve", "--port", "0", environment={"KEY_ONE": ONE})
    assert process.process.wait(30) == 2
    assert "the environment variable KEY_TWO is not set (clients.two.key)" in process.said()


@pytest.mark.long
def test_without_clients_it_listens_on_loopback_only_and_takes_any_key(
    tmp_path: os.PathLike[str], simulator: Simulator
) -> None:
    with Site(tmp_path, simulator) as alone:  # type: ignore[arg-type]
        assert "[clients]" in alone.run("serve", "--host", "0.0.0.0", "--port", "0", status=2).stderr
        with served(alone) as api, api.http("anything") as client:
            assert client.get("nowhere").status_code == 404
            assert client.get("nowhere", headers={"host": "evil.example.com"}).status_code == 403
        with served(alone) as api, api.http("") as client:
            assert client.get("nowhere").status_code == 401


@pytest.mark.long
def test_a_server_without_redis_says_503_with_retry_after(site: Site, api: Api) -> None:
    os.kill(site.redis_pid(), 19)
    try:
        with api.http() as client:
            answer = client.get(api.url.removesuffix("/v1") + "/healthz")
        assert answer.status_code == 503
        assert int(answer.headers["retry-after"]) >= 1
        assert answer.json()["error"]["type"] == "server_error"
    finally:
        os.kill(site.redis_pid(), 18)


@pytest.mark.long
def test_two_thousand_idle_connections_hold_no_call_up(api: Api) -> None:
    with ExitStack() as idle, api.sdk() as sdk:
        for number in range(2_000):
            connection = idle.enter_context(connect(api))
            if number % 2:
                connection.sendall(b"POST /v1/chat/completions HTTP/1.1\r\nHost: h\r\n")
        began = time.monotonic()
        for _ in range(20):
            message = {"role": "user", "content": "Hello"}
            sdk.chat.completions.create(model="acme/small", messages=[message])  # type: ignore[list-item]
        assert time.monotonic() - began < 20 * 2.0
    assert answers(api)
