"""Every connection to Redis falls silent without being closed, as a firewall or a vanished server leaves it."""

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.chaos.books import balance
from tests.simulator import Simulator
from tests.support.fixtures import simulator_fixture
from tests.support.silent_proxy import SilentProxy
from tests.support.site import Site, jobs, wait_for
from tests.support.valkey import own_valkey
from workers.pool.last_resort import CLOSING

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(300)]

MODEL = "input_usd_per_mtok = 1.0\noutput_usd_per_mtok = 2.0"
COUNT, CONCURRENCY, GRACE = 2_000, 40, 5


@pytest.fixture
def proxy() -> Iterator[SilentProxy]:
    with own_valkey() as server, SilentProxy(server.port) as made:
        yield made


simulator = simulator_fixture(
    "function", latency=0.5, models={"*": {"input_usd_per_mtok": 1.0, "output_usd_per_mtok": 2.0}}
)


@pytest.fixture
def site(proxy: SilentProxy, simulator: Simulator, tmp_path: Path) -> Iterator[Site]:
    more = f'redis_url = "redis://127.0.0.1:{proxy.port}/0"\nstop_grace_period = {GRACE}\nvisibility_timeout = 10'
    with Site(tmp_path, simulator, model=MODEL, more=more) as made:
        yield made


def in_its_middle(site: Site, simulator: Simulator) -> str:
    """A batch of which a tenth is done."""
    batch = site.submit(jobs(COUNT))
    wait_for(lambda: len(simulator.journal()) > COUNT // 10, 30, what="a run in its middle")
    return batch


def test_work_goes_on_over_new_connections(proxy: SilentProxy, simulator: Simulator, site: Site) -> None:
    worker = site.start_worker("-E", concurrency=CONCURRENCY)
    batch = in_its_middle(site, simulator)
    assert proxy.silence() > 3
    silent = time.monotonic()
    wait_for(lambda: time.monotonic() - simulator.journal()[-1]["at"] > 2, 10, what="the end of what was admitted")
    before = len(simulator.journal())
    wait_for(lambda: len(simulator.journal()) > before + 2 * CONCURRENCY, 20, what="work that goes on")
    assert time.monotonic() - silent < 20
    balance(site, simulator, batch, COUNT, seconds=180)
    assert worker.process.poll() is None


@pytest.mark.parametrize("new", [False, True], ids=["open", "all"])
def test_a_worker_ends_whatever_is_silent(proxy: SilentProxy, simulator: Simulator, site: Site, *, new: bool) -> None:
    worker = site.start_worker("-E", concurrency=CONCURRENCY)
    batch = in_its_middle(site, simulator)
    proxy.silence(new=new)
    told = time.monotonic()
    os.kill(worker.pid, signal.SIGTERM)
    worker.process.wait(60)
    assert time.monotonic() - told < max(GRACE, CLOSING) + 1
    proxy.speak()
    site.start_worker("-E", concurrency=CONCURRENCY)
    balance(site, simulator, batch, COUNT, paid_twice=CONCURRENCY, seconds=180)
