"""A server that is stopped: what takes longer than `stop_grace_period` is answered, settled and cleaned up."""

import asyncio
import signal
import socket
import threading
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import openai
import pytest

from limits.client.connection import Server
from tasks.monitoring import costs
from tests.support.api import CLIENTS, KEYS, ONE, served
from tests.support.raw_provider import Call, RawProvider
from tests.support.site import KEY, Site, wait_for
from tests.support.toml import PRICES, provider

pytestmark = pytest.mark.long

GRACE = 2.0


async def never() -> AsyncIterator[bytes]:
    await asyncio.Event().wait()
    yield b""


def answer(_: Call) -> AsyncIterator[bytes]:
    return never()


@pytest.fixture
def hanging() -> Iterator[RawProvider]:
    """A provider that never answers."""
    with RawProvider(answer) as made:
        yield made


def test_what_is_in_flight_at_the_end_gets_503_and_is_settled(tmp_path: Path, hanging: RawProvider) -> None:
    toml = f"stop_grace_period = {GRACE}\n" + provider(hanging.base_url, models={"small": PRICES}) + CLIENTS
    environment = {**KEYS, "ACME_KEY": KEY}
    with Site(tmp_path, toml=toml, environment=environment) as site, served(site) as api, api.sdk() as sdk:
        failed: list[openai.APIStatusError] = []

        def call() -> None:
            try:
                hello = {"role": "user", "content": "hello"}
                sdk.chat.completions.create(model="acme/small", messages=[hello], max_tokens=50)  # type: ignore[list-item]
            except openai.APIStatusError as error:
                failed.append(error)

        caller = threading.Thread(target=call)
        caller.start()
        host, _, port = api.url.removeprefix("http://").removesuffix("/v1").partition(":")
        with socket.create_connection((host, int(port)), 30) as upload:
            kind = "content-type: multipart/form-data; boundary=B\r\ncontent-length: 1000000"
            file = '--B\r\ncontent-disposition: form-data; name="file"; filename="a"\r\n\r\n{}\n'
            request = f"POST /v1/files HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {ONE}\r\n{kind}\r\n\r\n{file}"
            upload.sendall(request.encode())
            wait_for(lambda: hanging.calls["hello"] and stored(site), what="the call and the upload")
            began = time.monotonic()
            api.process.process.send_signal(signal.SIGTERM)
            api.process.process.wait(30)
            assert GRACE <= time.monotonic() - began < GRACE + 10.0
            assert upload.recv(100).startswith(b"HTTP/1.1 503")
        caller.join(10)
        assert [error.status_code for error in failed] == [503]
        assert int(failed[0].response.headers["retry-after"]) >= 1
        assert stored(site) == []
        assert "Traceback" not in api.log()
        with site.client() as client:
            spent = costs.read(Server(client), site.keys, costs.today()).total
        assert (spent.calls, spent.presumed) == (1, 1), "it is settled at once, not when its lease ends"
        assert spent.total > 0


def stored(site: Site) -> list[Path]:
    """The files of uploads."""
    return [path for path in (site.folder / ".overnight" / "files" / "files").rglob("*") if path.is_file()]
