"""A Redis server that takes no writes: what only reads is answered, and the check says what is wrong."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from tests.simulator import Simulator
from tests.support.site import Site, jobs
from tests.support.valkey import own_valkey

pytestmark = pytest.mark.long


@pytest.fixture
def full(tmp_path: Path) -> Iterator[tuple[Site, str]]:
    """A site with a batch whose server is out of memory."""
    with own_valkey() as server, Simulator() as simulator:
        more = f'redis_url = "redis://127.0.0.1:{server.port}/0"\nbudget_usd = 10.0'
        prices = "rpm = 600\ninput_usd_per_mtok = 1.0\noutput_usd_per_mtok = 2.0"
        with Site(tmp_path, simulator, more=more, model=prices) as site:
            batch = site.submit(jobs(3))
            client: redis.Redis = redis.Redis(port=server.port)
            client.config_set("maxmemory", "1")
            yield site, batch
            client.close()


def test_what_only_reads_is_answered(full: tuple[Site, str]) -> None:
    site, batch = full
    commands = [("status",), ("status", batch), ("status", batch, "--json"), ("limits",), ("costs",), ("check",)]
    asked = {" ".join(command): site.popen(*command) for command in commands}
    said = {name: process.communicate(timeout=60) for name, process in asked.items()}
    assert {name: process.returncode for name, process in asked.items()} == {
        name: 2 if name == "check" else 0 for name in asked
    }, said
    assert "takes no writes: OOM" in "".join(said["check"])
    assert "refuses writes: OOM" in "".join(said[f"status {batch}"])
